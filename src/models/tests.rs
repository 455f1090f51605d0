//! Tests of the files of a model: their order, and the state dict that is taken.

use super::*;

/// The state dict that is taken from a golden container.
fn taken(file: &str, state_dict: Option<&str>) -> Option<String> {
    let containers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoint_containers");
    let files = ModelFiles {
        paths: BTreeMap::from([(Role::Transformer, containers.join(file))]),
        decoder: DecoderKind::Wan,
        state_dict: state_dict.map(str::to_string),
        lora_alpha: None,
        controls: None,
        loras: Vec::new(),
        sources: None,
    };
    let (checkpoint, _) = files.open_state_dict(&Compute::cpu()).unwrap();
    checkpoint.state_dict().map(str::to_string)
}

#[test]
fn files_are_listed_in_the_order_of_recipes() {
    let of = |left_out: &[Role]| -> BTreeMap<Role, PathBuf> {
        let roles = Role::ALL.iter().filter(|role| !left_out.contains(role));
        roles.map(|role| (*role, PathBuf::from(role.name()))).collect()
    };
    let paths = of(&[Role::ImageEncoder]);
    let files = ModelFiles {
        paths,
        decoder: DecoderKind::Tae,
        state_dict: None,
        lora_alpha: None,
        controls: None,
        loras: vec!["added.pt:0.5".parse().unwrap()],
        sources: None,
    };
    let listed = |decoder: DecoderKind, encoder: bool| {
        let files = files.list(Needs {
            decoder,
            encoder,
            ..Needs::default()
        });
        files
            .into_iter()
            .map(|file| file.role.name())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let wan = "transformer config vae text-encoder tokenizer lora lora";
    assert_eq!(
        (listed(DecoderKind::Wan, false), listed(DecoderKind::Wan, true)),
        (wan.into(), wan.into())
    );
    assert_eq!(
        listed(DecoderKind::Tae, false),
        "transformer config tiny-decoder text-encoder tokenizer lora lora"
    );
    assert_eq!(
        listed(DecoderKind::Tae, true),
        "transformer config tiny-decoder vae text-encoder tokenizer lora lora"
    );
    let world = ModelFiles {
        paths: of(&[]),
        ..files
    };
    let listed = world.list(Needs::default());
    let listed: Vec<&str> = listed.iter().map(|file| file.role.name()).collect();
    assert_eq!(listed.join(" "), "transformer config vae image-encoder lora lora");
}

#[test]
fn the_state_dict_of_the_preset_is_taken_where_the_file_has_it() {
    let both = "training_both_f32.pt";
    assert_eq!(taken(both, None).as_deref(), Some("generator_ema"));
    assert_eq!(taken(both, Some("generator")).as_deref(), Some("generator"));
    assert_eq!(
        taken("generator_ema_bf16.pt", Some("generator")).as_deref(),
        Some("generator_ema")
    );
    assert_eq!(taken("expected_f32.safetensors", Some("generator")), None);
}
