//! Tests of finding networks in files.

use proptest::prelude::*;

use super::*;

/// The names of a small transformer.
const WAN: &[&str] = &[
    "patch_embedding.weight",
    "head.modulation",
    "blocks.0.modulation",
    "blocks.0.self_attn.q.weight",
];

fn find(network: Network, names: &[String], pick: Option<&str>) -> Result<Layout, LayoutError> {
    let entries: Vec<_> = names.iter().map(|name| Entry { name, shape: &[2, 16] }).collect();
    Layout::find(network, &entries, pick)
}

fn with(prefix: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}

fn refusal(network: Network, names: &[String]) -> String {
    find(network, names, None).unwrap_err().to_string()
}

#[test]
fn a_prefix_is_found_by_the_tensor_that_every_file_has() {
    for prefix in [
        "",
        "model.",
        "model.diffusion_model.",
        "net.",
        "generator.model.",
        "anything.at.all.",
    ] {
        let layout = find(Network::Transformer, &with(prefix, WAN), None).unwrap();
        assert_eq!((layout.prefix.as_str(), layout.naming), (prefix, Naming::Original));
        let known: BTreeSet<&str> = layout.tensors.keys().map(String::as_str).collect();
        assert_eq!(known, WAN.iter().copied().collect());
        assert_eq!(layout.tensors["head.modulation"], format!("{prefix}head.modulation"));
        assert_eq!(
            layout.stored_name("blocks.9.norm3.bias"),
            format!("{prefix}blocks.9.norm3.bias")
        );
    }
}

#[test]
fn wrappers_are_deleted_wherever_they_stand() {
    let names = [
        "module.module.model._orig_mod.patch_embedding.weight",
        "module.model.blocks.0._checkpoint_wrapped_module.modulation",
        "model._fsdp_wrapped_module.head.modulation",
    ];
    let layout = find(Network::Transformer, &with("", &names), None).unwrap();
    assert_eq!(layout.prefix, "model.");
    assert_eq!(layout.tensors["blocks.0.modulation"], names[1]);
    let twice = [&names[..], &["model.head.modulation"]].concat();
    let said = refusal(Network::Transformer, &with("", &twice));
    assert!(said.contains("two models") && said.contains(names[2]), "{said}");
}

#[test]
fn other_networks_and_tokenizers_beside_it_are_passed_over() {
    let mut names = with("model.diffusion_model.", WAN);
    names.extend(with("vae.", &["decoder.conv1.weight"]));
    names.extend(with(
        "text_encoders.umt5xxl.transformer.",
        &["shared.weight", "encoder.final_layer_norm.weight"],
    ));
    names.push("text_encoders.umt5xxl.spiece_model".into());
    let layout = find(Network::Transformer, &names, None).unwrap();
    assert_eq!((layout.tensors.len(), layout.passed_over.len()), (WAN.len(), 4));
    let text = find(Network::TextEncoder, &names, None).unwrap();
    assert_eq!(text.naming, Naming::HuggingFace);
    assert_eq!(
        text.tensors.keys().collect::<Vec<_>>(),
        ["norm.weight", "token_embedding.weight"]
    );
    assert_eq!(find(Network::Vae, &names, None).unwrap().prefix, "vae.");
    let found = networks(names.iter().map(String::as_str));
    assert_eq!(
        found.iter().map(|(network, _)| *network).collect::<Vec<_>>(),
        [Network::Transformer, Network::TextEncoder, Network::Vae]
    );
}

#[test]
fn one_of_several_networks_is_chosen_by_name_or_not_at_all() {
    let mut names = with("generator.model.", WAN);
    names.extend(with("real_score.", WAN));
    let said = refusal(Network::Transformer, &names);
    for part in [
        "several networks",
        "`generator.model.`",
        "`real_score.`",
        "state-dict = \"generator\"",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let layout = find(Network::Transformer, &names, Some("generator")).unwrap();
    assert_eq!(
        (layout.prefix.as_str(), layout.tensors.len()),
        ("generator.model.", WAN.len())
    );
    assert!(find(Network::Transformer, &names, Some("critic")).is_err());
    // A choice that need not be made changes nothing.
    assert!(find(Network::Transformer, &with("model.", WAN), Some("generator")).is_ok());
}

#[test]
fn names_that_belong_to_nothing_are_told() {
    let mut names = with("model.", WAN);
    names.push("critic.fake.weight".into());
    let said = refusal(Network::Transformer, &names);
    assert!(
        said.contains("`critic.fake.weight`") && said.contains("`model.`"),
        "{said}"
    );
    names[4] = "head.modulation".into();
    let said = refusal(Network::Transformer, &names);
    assert!(
        said.contains("`head.modulation`") && said.contains("two models"),
        "{said}"
    );
    let said = refusal(
        Network::Transformer,
        &with("", &["decoder.conv1.weight", "decoder.middle.0.a"]),
    );
    for part in [
        "not a Wan transformer",
        "patch_embedding.weight",
        "decoder.conv1.weight",
        "a Wan VAE",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_describes_weights_goes_with_them() {
    let names = [
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.0.layer.0.SelfAttention.q.scale_weight",
        "scaled_fp8",
        "spiece_model",
    ];
    let layout = find(Network::TextEncoder, &with("", &names), None).unwrap();
    let sides: Vec<_> = layout.sides.iter().map(|side| (side.kind, side.of.as_str())).collect();
    assert_eq!(sides, [("scale_weight", "blocks.0.attn.q.weight"), (OF_FILE, "")]);
    assert_eq!(
        layout.weight_of("encoder.block.0.layer.0.SelfAttention.q").as_deref(),
        Some("blocks.0.attn.q.weight")
    );
}

#[test]
fn encoders_of_other_models_are_refused_by_name() {
    let block = |n: usize| ["q", "k"].map(|part| format!("encoder.block.{n}.layer.0.SelfAttention.{part}.weight"));
    let mut names = [block(0), block(1)].concat();
    names.push("shared.weight".into());
    names.push("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".into());
    let said = refusal(Network::TextEncoder, &names);
    assert!(said.contains("T5 v1.1") && said.contains("UMT5-XXL"), "{said}");
}

proptest! {
    /// Any names at all are understood or refused.
    #[test]
    fn no_names_are_too_strange(names in prop::collection::vec("[a-z0-9._]{0,40}|(module\\.)*patch_embedding\\.weight", 0..12)) {
        for network in Network::ALL {
            let _ = find(network, &names, None);
            let _ = find(network, &names, Some("a"));
        }
        let _ = networks(names.iter().map(String::as_str));
    }
}
