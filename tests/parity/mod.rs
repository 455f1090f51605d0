//! One golden case: its inputs, its expected tensors, and what was compared so far.
//!
//! Add a file per kind, each with a function `run(case: &Case) -> anyhow::Result<()>`, and give it a row in the table of
//! `golden.rs`.

pub mod actions;
pub mod causal_forcing;
pub mod causvid;
pub mod checkpoint;
pub mod longlive;
pub mod lora;
pub mod policy;
pub mod rolling;
pub mod rollout;
pub mod schedule;
pub mod taehv;
pub mod text;
pub mod transformer;
pub mod umt5;
pub mod vae;
pub mod weights_end_to_end;
pub mod weights_fp8;
pub mod weights_gguf;
pub mod weights_layout;
pub mod weights_lora;
pub mod world;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use deepforcing::device::{Compute, Selection};
use serde_json::Value;

/// A function that runs one case.
pub type Run = fn(&Case) -> Result<()>;

/// A folder with `meta.json` and, mostly, `io.safetensors`.
pub struct Case {
    root: PathBuf,
    dir: PathBuf,
    /// The whole `meta.json`.
    pub meta: Value,
    /// Where its networks are computed.
    pub compute: Compute,
    io: HashMap<String, Tensor>,
    used: RefCell<BTreeSet<String>>,
    compared: Cell<usize>,
    failures: RefCell<Vec<String>>,
}

impl Case {
    /// Reads a case, to be computed on the CPU unless [`Case::compute`] is set.
    pub fn load(root: &Path, dir: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(dir.join("meta.json"))?;
        let meta: Value = serde_json::from_str(&text).context("meta.json")?;
        let io = dir.join("io.safetensors");
        let io = match io.is_file() {
            true => candle_core::safetensors::load(io, &Device::Cpu)?,
            false => HashMap::new(),
        };
        Ok(Self {
            root: root.into(),
            dir: dir.into(),
            meta,
            compute: Compute::cpu(),
            io,
            used: RefCell::default(),
            compared: Cell::new(0),
            failures: RefCell::default(),
        })
    }

    pub fn kind(&self) -> String {
        self.meta["kind"].as_str().unwrap_or("(none)").into()
    }

    /// A file named by `meta.json`, relative to the case or to the folder of all cases.
    pub fn file(&self, name: &str) -> PathBuf {
        let beside = self.dir.join(name);
        if beside.exists() { beside } else { self.root.join(name) }
    }

    /// Names of all tensors of `io.safetensors`.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.io.keys().cloned().collect();
        names.sort();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.io.contains_key(name)
    }

    /// A stored tensor, used as an input; numbers with a fraction are on the device.
    pub fn input(&self, name: &str) -> Result<Tensor> {
        let tensor = self.stored(name)?;
        match tensor.dtype().is_float() {
            true => Ok(tensor.to_device(&self.compute.device)?),
            false => Ok(tensor),
        }
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        self.used.borrow_mut().insert(name.into());
        let tensor = self.io.get(name);
        Ok(tensor
            .with_context(|| format!("io.safetensors has no `{name}`"))?
            .clone())
    }

    /// Whether events need not be the same: tokens with nearly the same score change places in bf16.
    pub fn inexact(&self) -> bool {
        self.compute.dtype == DType::BF16
    }

    /// What a device may differ by, from what f32 on the CPU may. Sums in another order cost a factor; bf16 rounds to 8
    /// bits some dozens of times in a pass, and again in every step of a rollout.
    fn allowed(&self, tolerance: f64) -> f64 {
        match (self.compute.device.is_cpu(), self.inexact()) {
            (true, _) => tolerance,
            (false, false) => 10.0 * tolerance,
            (false, true) if tolerance <= 1e-5 => 3e-2,
            (false, true) => 1e-1,
        }
    }

    /// A stored integer or float tensor as `i64`, flattened (integers exactly).
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        Ok(self.stored(name)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1()?)
    }

    /// Compares `got` with the stored tensor `name` by relative L2 over the whole tensor.
    pub fn close(&self, name: &str, got: &Tensor, tolerance: f64) {
        match self.input(name) {
            Ok(want) => self.close_to(name, got, &want, tolerance),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    /// Compares two tensors by relative L2: `‖got − want‖ / ‖want‖`.
    pub fn close_to(&self, what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
        self.compared.set(self.compared.get() + 1);
        if got.dims() != want.dims() {
            return self.fail(format!("{what}: shape {:?}, expected {:?}", got.dims(), want.dims()));
        }
        let tolerance = self.allowed(tolerance);
        match relative_l2(got, want) {
            Ok(distance) if distance <= tolerance => {}
            Ok(distance) => self.fail(format!("{what}: relative L2 {distance:.3e}, allowed {tolerance:.0e}")),
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    /// Compares integers exactly with the stored tensor `name`.
    pub fn exact(&self, name: &str, got: &[i64]) {
        self.compared.set(self.compared.get() + 1);
        match self.integers(name) {
            Ok(want) if want == got => {}
            Ok(want) => {
                let at = want.iter().zip(got).position(|(w, g)| w != g);
                self.fail(format!(
                    "{name}: {} values, expected {}; first difference at {at:?}",
                    got.len(),
                    want.len()
                ));
            }
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    /// Records a comparison made by the caller.
    pub fn check(&self, what: impl std::fmt::Display, ok: bool) {
        self.compared.set(self.compared.get() + 1);
        if !ok {
            self.fail(what.to_string());
        }
    }

    pub fn fail(&self, reason: String) {
        self.failures.borrow_mut().push(reason);
    }

    /// Number of comparisons and what failed; a stored tensor that nobody used is a failure.
    pub fn finish(self) -> (usize, Vec<String>) {
        let used = self.used.into_inner();
        let mut failures = self.failures.into_inner();
        let mut unused: Vec<_> = self.io.keys().filter(|name| !used.contains(*name)).collect();
        unused.sort();
        failures.extend(unused.iter().map(|name| format!("{name}: stored but never compared")));
        if self.compared.get() == 0 {
            failures.push("nothing was compared".into());
        }
        (self.compared.get(), failures)
    }
}

/// The device under test: `DEEPFORCING_TEST_DEVICE` (`cpu`, `cuda`, `cuda:N`) and `DEEPFORCING_TEST_DTYPE` (`f32`,
/// `bf16`), the CPU in f32 without them.
pub fn device_under_test() -> Result<Compute> {
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let device = variable("DEEPFORCING_TEST_DEVICE", "cpu")
        .parse()
        .map_err(anyhow::Error::msg)?;
    let dtype = variable("DEEPFORCING_TEST_DTYPE", "f32")
        .parse()
        .map_err(anyhow::Error::msg)?;
    Ok(Selection::choose(device, dtype)?.open()?)
}

/// A number of `meta.json`.
pub fn number<T: serde::de::DeserializeOwned>(value: &Value, key: &str) -> Result<T> {
    serde_json::from_value(value[key].clone()).with_context(|| format!("`{key}` of meta.json"))
}

/// The tolerance that a case recommends for its tensors, or `default`.
pub fn tolerance(case: &Case, default: f64) -> f64 {
    case.meta["tolerance"]["recommended"].as_f64().unwrap_or(default)
}

/// `‖a − b‖ / ‖b‖` over the whole tensor, in f64.
pub fn relative_l2(a: &Tensor, b: &Tensor) -> Result<f64> {
    let wide = |tensor: &Tensor| -> Result<Vec<f64>> {
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    };
    let (a, b) = (wide(a)?, wide(b)?);
    let distance: f64 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
    let norm: f64 = b.iter().map(|y| y * y).sum();
    // NaN must fail, whatever the tolerance.
    let relative = (distance / norm.max(f64::MIN_POSITIVE)).sqrt();
    Ok(if relative.is_nan() { f64::INFINITY } else { relative })
}
