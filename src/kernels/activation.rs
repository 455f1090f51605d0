//! Activations over slices, in place.

/// `x ← x · sigmoid(x)`.
pub fn silu_in_place(values: &mut [f32]) {
    for v in values {
        *v /= 1.0 + (-*v).exp();
    }
}

/// `x ← 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the tanh form of GELU.
pub fn gelu_tanh_in_place(values: &mut [f32]) {
    for v in values {
        let x = *v;
        let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
        *v = 0.5 * x * (1.0 + inner.tanh());
    }
}
