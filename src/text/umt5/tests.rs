//! Tests of the UMT5 encoder.

use std::collections::HashMap;

use super::*;

fn tiny() -> Umt5Config {
    Umt5Config {
        vocab: 20,
        dim: 12,
        attention_dim: 8,
        ffn_dim: 10,
        heads: 2,
        layers: 2,
        buckets: 8,
        ..Umt5Config::xxl()
    }
}

fn random(config: &Umt5Config) -> HashMap<String, Tensor> {
    let tensor = |spec: TensorSpec| (spec.name, Tensor::randn(0f32, 0.5, spec.shape, &Device::Cpu).unwrap());
    Umt5::expected_tensors(config)
        .unwrap()
        .into_iter()
        .map(tensor)
        .collect()
}

fn model(tensors: HashMap<String, Tensor>) -> Result<Umt5> {
    Umt5::new(Weights::from_tensors(tensors, DType::F32, &Device::Cpu))
}

#[test]
fn real_size() {
    let tensors = Umt5::expected_tensors(&Umt5Config::xxl()).unwrap();
    let parameters: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
    assert_eq!((tensors.len(), parameters), (242, 5_680_910_336));
}

#[test]
fn sizes_are_read_off_the_tensors() {
    assert_eq!(model(random(&tiny())).unwrap().config(), &tiny());
}

#[test]
fn padding_changes_nothing() {
    let model = model(random(&tiny())).unwrap();
    let prompt = TokenizedPrompt {
        ids: vec![3, 7, 19, 1],
        total: 4,
    };
    let other = TokenizedPrompt {
        ids: vec![5, 1],
        total: 2,
    };
    let got = model.encode(&[&other, &prompt], 9).unwrap();
    let padded = Sequence {
        ids: &[3, 7, 19, 1, 0, 0, 0],
        keys: 4,
    };
    let want = model.encode_with(&[padded], 9, None).unwrap();
    assert_eq!(got[1].dims(), [9, 12]);
    let difference = (&got[1] - &want[0]).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
    let tail = got[1].narrow(0, 4, 5).unwrap().abs().unwrap().max_all().unwrap();
    assert_eq!(tail.to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn wrong_files_and_prompts_are_refused() {
    let mut tensors = random(&tiny());
    tensors.remove("blocks.1.ffn.fc2.weight");
    let error = model(tensors).err().unwrap().to_string();
    assert!(error.contains("blocks.1.ffn.fc2.weight"), "{error}");
    assert!(
        model(HashMap::new())
            .err()
            .unwrap()
            .to_string()
            .contains("token_embedding.weight")
    );

    let model = model(random(&tiny())).unwrap();
    let outside = TokenizedPrompt {
        ids: vec![20, 1],
        total: 2,
    };
    assert!(
        model
            .encode(&[&outside], 4)
            .unwrap_err()
            .to_string()
            .contains("vocabulary of 20")
    );
    let long = TokenizedPrompt {
        ids: vec![3; 5],
        total: 5,
    };
    assert!(model.encode(&[&long], 4).unwrap_err().to_string().contains("5 tokens"));
}

#[test]
fn buckets() {
    let bucket = |r| relative_bucket(r, 32, 128);
    assert_eq!([0, -1, 1, -7, 7, -8].map(bucket), [0, 1, 17, 7, 23, 8]);
    assert_eq!([-127, 127, 128, -5000, 5000].map(bucket), [15, 31, 31, 15, 31]);
}
