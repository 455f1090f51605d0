//! Changes that are no pair of matrices: whole differences, LoKr, LoHa, DoRA.

use super::*;

/// The change that a file makes of a tensor.
fn change(tensors: &Tensors, name: &str, strength: f64) -> Tensor {
    let weights = weights();
    let (_folder, path) = file(tensors);
    let shape = weights[name].dims().to_vec();
    let changed = read(&path, &weights, strength, None).get(shape, name).unwrap();
    (changed - &weights[name]).unwrap()
}

#[test]
fn differences_are_added_whole() {
    let cases = [
        (
            "diffusion_model.blocks.0.self_attn.q.diff",
            "blocks.0.self_attn.q.weight",
        ),
        (
            "diffusion_model.blocks.0.self_attn.q.diff_b",
            "blocks.0.self_attn.q.bias",
        ),
        ("diffusion_model.blocks.0.diff_m", "blocks.0.modulation"),
        ("blocks.0.modulation.diff", "blocks.0.modulation"),
        ("transformer.scale_shift_table.diff", "head.modulation"),
        ("blocks.0.norm3.diff", "blocks.0.norm3.weight"),
        ("patch_embedding.diff", "patch_embedding.weight"),
    ];
    let models: HashMap<_, _> = MODEL.iter().copied().collect();
    for (name, tensor) in cases {
        let tensors = Tensors::from([(name.into(), random(models[tensor]))]);
        let want = (&tensors[name] * 0.5).unwrap();
        assert!(distance(&change(&tensors, tensor, 0.5), &want) < 1e-6, "{name}");
        let said = refusal(&tensors);
        assert!(said.contains("1 tensors are changed by whole differences"), "{said}");
    }
    // Dimensions of 1 may be left out.
    let tensors = Tensors::from([("head.diff_m".into(), random(&[2, 6]))]);
    let want = tensors["head.diff_m"].reshape((1, 2, 6)).unwrap();
    assert!(distance(&change(&tensors, "head.modulation", 1.0), &want) < 1e-6);
}

#[test]
fn products_of_other_kinds_are_made_as_their_formulas_say() {
    let factor = |part: &str, shape: &[usize]| (format!("blocks.0.ffn.0.{part}"), random(shape));
    let alpha = |alpha: f32| {
        (
            "blocks.0.ffn.0.alpha".to_string(),
            Tensor::new(alpha, &Device::Cpu).unwrap(),
        )
    };
    let name = "blocks.0.ffn.0.weight";
    let get = |tensors: &Tensors, part: &str| tensors[&format!("blocks.0.ffn.0.{part}")].clone();
    let kron = |one: &Tensor, two: &Tensor| {
        let (one, two) = (one.to_vec2::<f32>().unwrap(), two.to_vec2::<f32>().unwrap());
        let value = |row: usize, column: usize| {
            let (rows, columns) = (two.len(), two[0].len());
            one[row / rows][column / columns] * two[row % rows][column % columns]
        };
        let values = (0..48).map(|at| value(at / 6, at % 6)).collect();
        Tensor::from_vec(values, (8, 6), &Device::Cpu).unwrap()
    };
    // Both factors whole: alpha says nothing.
    let tensors = Tensors::from([factor("lokr_w1", &[4, 2]), factor("lokr_w2", &[2, 3]), alpha(1e10)]);
    let want = kron(&get(&tensors, "lokr_w1"), &get(&tensors, "lokr_w2"));
    assert!(distance(&change(&tensors, name, 1.0), &want) < 1e-5);
    let tensors = Tensors::from([
        factor("lokr_w1", &[2, 2]),
        factor("lokr_w2_a", &[4, 1]),
        factor("lokr_w2_b", &[1, 3]),
        alpha(0.5),
    ]);
    let second = get(&tensors, "lokr_w2_a").matmul(&get(&tensors, "lokr_w2_b")).unwrap();
    let want = (kron(&get(&tensors, "lokr_w1"), &second) * 1.0).unwrap();
    assert!(distance(&change(&tensors, name, 2.0), &want) < 1e-5);
    let tensors = Tensors::from([
        factor("hada_w1_a", &[8, 2]),
        factor("hada_w1_b", &[2, 6]),
        factor("hada_w2_a", &[8, 2]),
        factor("hada_w2_b", &[2, 6]),
        alpha(4.0),
    ]);
    let product = |side: &str| {
        let factor = |part: &str| get(&tensors, &format!("hada_{side}_{part}"));
        factor("a").matmul(&factor("b")).unwrap()
    };
    let want = ((product("w1") * product("w2")).unwrap() * 2.0).unwrap();
    assert!(distance(&change(&tensors, name, 1.0), &want) < 1e-5);
}

#[test]
fn a_dora_gives_rows_their_lengths() {
    let weights = weights();
    let mut lora = pair("blocks.0.ffn.0", 8, 6);
    let lengths = Tensor::arange(1f32, 9., &Device::Cpu).unwrap();
    lora.insert("blocks.0.ffn.0.lora_magnitude_vector".into(), lengths.clone());
    let (_folder, path) = file(&lora);
    let got = read(&path, &weights, 1.0, None)
        .get([8, 6], "blocks.0.ffn.0.weight")
        .unwrap();
    let sum = merged(&weights["blocks.0.ffn.0.weight"], &lora, "blocks.0.ffn.0", 1.0);
    let squares = |tensor: &Tensor| tensor.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
    assert!(distance(&squares(&got).flatten_all().unwrap(), &lengths) < 1e-4);
    let direction = |tensor: &Tensor| tensor.broadcast_div(&squares(tensor)).unwrap();
    assert!(distance(&direction(&got), &direction(&sum)) < 1e-5);
    let opened = Lora::open(&path).unwrap();
    let add = |merge: &mut LoraMerge, strength: f64| merge.add(&opened, &model(), strength, None).map(|_| ());
    let said = add(&mut LoraMerge::default(), 0.5).unwrap_err().to_string();
    assert!(
        said.contains("strength 0.5") && said.contains("blocks.0.ffn.0"),
        "{said}"
    );
    let mut merge = LoraMerge::default();
    add(&mut merge, 1.0).unwrap();
    let said = add(&mut merge, 1.0).unwrap_err().to_string();
    assert!(
        said.contains("twice") && said.contains("blocks.0.ffn.0.weight"),
        "{said}"
    );
    // A description that asks for lengths that are not there.
    let (folder, path) = file(&pair("blocks.0.ffn.0", 8, 6));
    std::fs::write(folder.path().join("adapter_config.json"), r#"{"use_dora": true}"#).unwrap();
    let said = Lora::open(&path).err().unwrap().to_string();
    assert!(said.contains("use_dora") && said.contains("no magnitude"), "{said}");
}
