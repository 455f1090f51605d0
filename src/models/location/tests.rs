//! Tests of finding models.

use super::super::DecoderKind;
use super::*;

const NO_NETWORK: [(&str, &str); 1] = [("HF_HUB_OFFLINE", "1")];

fn locator(cache: &Path, more: &[(&'static str, &'static str)]) -> Locator {
    let more = more.to_vec();
    let cache = cache.to_path_buf();
    Locator::from_env(move |name| match name {
        "HF_HUB_CACHE" => Some(cache.clone().into()),
        "DEEPFORCING_CACHE" => Some(cache.join("own").into()),
        _ => more.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
    })
}

fn locate(locator: &Locator, model: Option<&str>, preset: Option<&str>) -> Result<Located> {
    let choice = ModelChoice {
        model,
        preset,
        own: None,
    };
    locator.locate(choice, Needs::default(), &|| false)
}

/// Puts a preset's files into a cache, with their sizes and nothing in them.
fn fill(cache: &Path, preset: &str) {
    for (_, source) in Preset::load(preset).unwrap().sources.unwrap().all() {
        let repo = cache.join(format!("models--{}", source.repo.replace('/', "--")));
        let commit = match source.revision.as_str() {
            "main" => "0123456789012345678901234567890123456789",
            commit => commit,
        };
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs").join(&source.revision), commit).unwrap();
        let file = repo.join("snapshots").join(commit).join(&source.file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let file = std::fs::File::create(file).unwrap();
        file.set_len(source.bytes.unwrap_or(1)).unwrap();
    }
}

#[test]
fn a_preset_is_in_the_cache_or_missing() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let located = locate(&locator, Some("causal-forcing"), None).unwrap();
    assert_eq!(located.location, ModelLocation::Hub);
    let Found::Missing(missing) = locator.files(&located, Needs::default()).unwrap() else {
        panic!("found in an empty cache");
    };
    let files: Vec<_> = missing.iter().map(|source| source.file.as_str()).collect();
    assert!(files.contains(&"chunkwise/causal_forcing.pt"), "{files:?}");
    assert!(!files.contains(&"taew2_1.pth"), "{files:?}");

    fill(cache.path(), "causal-forcing");
    let Found::Files(files) = locator.files(&located, Needs::default()).unwrap() else {
        panic!("not found in a full cache");
    };
    assert_eq!(files.state_dict.as_deref(), Some("generator"));
    let listed = files.list(Needs::default());
    assert!(listed.iter().all(|file| file.source.is_some() && file.path.is_file()));
    let roles: Vec<_> = listed.iter().map(|file| file.role).collect();
    assert!(
        roles.contains(&Role::Vae) && !roles.contains(&Role::TinyDecoder),
        "{roles:?}"
    );
}

#[test]
fn the_tiny_decoder_needs_the_vae_only_to_start_from_pictures() {
    let sources = Preset::load("deep-forcing").unwrap().sources.unwrap();
    let files = |needs: Needs| -> Vec<Role> {
        let needed = sources.needed(needs).unwrap();
        needed.into_iter().map(|(role, _)| role).collect()
    };
    let tae = Needs {
        decoder: DecoderKind::Tae,
        ..Needs::default()
    };
    assert!(files(tae).contains(&Role::TinyDecoder) && !files(tae).contains(&Role::Vae));
    let start = Needs { encoder: true, ..tae };
    assert!(files(start).contains(&Role::TinyDecoder) && files(start).contains(&Role::Vae));
    assert!(!files(Needs::default()).contains(&Role::TinyDecoder));
}

#[test]
#[cfg(feature = "bundled-model")]
fn the_bundled_model_is_taken_when_the_default_one_cannot_be_had() {
    let cache = tempfile::tempdir().unwrap();
    for variable in [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:1")] {
        let locator = locator(cache.path(), &[variable]);
        let located = locate(&locator, None, None).unwrap();
        assert_eq!(located.preset_name, "toy", "{variable:?}");
        assert_eq!(located.location, ModelLocation::Bundled);
        assert!(located.fallback.unwrap().is_offline());
        // Who names a model gets it or an error.
        let named = locate(&locator, Some("deep-forcing"), None).unwrap();
        assert_eq!(named.location, ModelLocation::Hub);
    }
    fill(cache.path(), Preset::DEFAULT);
    let located = locate(&locator(cache.path(), &NO_NETWORK), None, None).unwrap();
    assert_eq!(
        (located.preset_name.as_str(), located.location),
        ("deep-forcing", ModelLocation::Hub)
    );
}

#[test]
#[cfg(feature = "bundled-model")]
fn without_a_place_for_a_cache_the_bundled_model_is_left() {
    let located = locate(&Locator::from_env(|_| None), None, None).unwrap();
    assert_eq!(located.location, ModelLocation::Bundled);
    assert_eq!(located.fallback, Some(HubError::NoHome));
}

#[test]
fn settings_can_be_those_of_another_preset() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let located = locate(&locator, Some("causal-forcing"), Some("deep-forcing")).unwrap();
    let model = Preset::load("causal-forcing").unwrap();
    assert_eq!(
        (located.model.as_str(), located.preset_name.as_str()),
        ("causal-forcing", "deep-forcing")
    );
    assert_eq!(located.preset.sources, model.sources);
    assert_eq!(located.preset.cache, Preset::load("deep-forcing").unwrap().cache);
    assert_ne!(located.preset.cache, model.cache);
    assert_eq!(located.preset.sized_by(), Some("causal-forcing"));
    // The size is that of the weights, be they smaller or larger.
    let video = |model, preset| locate(&locator, Some(model), Some(preset)).unwrap().preset.video;
    let [toy, wan] = ["toy", "longlive"].map(|name| Preset::load(name).unwrap().video);
    assert_eq!((video("toy", "longlive"), video("longlive", "toy")), (toy, wan));
    // Unless a file of the user says it itself.
    let own = cache.path().join("own.toml");
    let own = own.to_str().unwrap();
    let sized = "base = \"longlive\"\ndescription = \"own\"\n[video]\nwidth = 320\nheight = 192\nfps = 8\n";
    std::fs::write(own, sized).unwrap();
    assert_eq!((video("toy", own).width, video("toy", own).fps), (320, 8));
    std::fs::write(own, "base = \"longlive\"\ndescription = \"own\"\n").unwrap();
    assert_eq!(video("toy", own), toy);
    // A preset alone names a model as well.
    let located = locate(&locator, None, Some("toy")).unwrap();
    assert_eq!(located.location, ModelLocation::Bundled);
    assert_eq!(located.fallback, None);
    let located = locate(&locator, None, Some("self-forcing")).unwrap();
    assert_eq!(
        (located.model.as_str(), located.location),
        ("self-forcing", ModelLocation::Hub)
    );
}

#[test]
fn a_folder_is_taken_with_the_preset_that_it_names() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let toy = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/toy");
    let located = locate(&locator, toy.to_str(), None).unwrap();
    assert_eq!(located.location, ModelLocation::Folder(toy.clone()));
    assert_eq!(located.preset_name, "toy");
    assert!(matches!(
        locator.files(&located, Needs::default()).unwrap(),
        Found::Files(_)
    ));
    let toy_preset = located.preset;
    let located = locate(&locator, toy.to_str(), Some("longlive")).unwrap();
    assert_eq!(located.preset_name, "longlive");
    // Its files and its picture size are its own.
    assert_eq!(located.preset.video, toy_preset.video);
    assert!(matches!(
        locator.files(&located, Needs::default()).unwrap(),
        Found::Files(_)
    ));
}

#[test]
fn what_is_no_model_is_refused_with_the_known_ones() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let error = locate(&locator, Some("deepforcing"), None).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("deep-forcing, self-forcing"),
        "{error}"
    );
    let error = locate(&locator, Some("no/such/folder"), None).unwrap_err();
    assert!(matches!(error, Error::ModelFolder { .. }), "{error}");
    assert!(locate(&locator, None, Some("nothing")).unwrap_err().is_usage());
}

/// The files of the bundled model.
fn toy() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/toy")
}

#[test]
fn a_file_comes_with_what_is_beside_it() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let file = toy().join("diffusion_pytorch_model.safetensors");
    let located = locate(&locator, file.to_str(), None).unwrap();
    assert_eq!(located.preset_name, "toy");
    assert_eq!(located.location, ModelLocation::Found(file.clone()));
    let Found::Files(files) = locator.files(&located, Needs::default()).unwrap() else {
        panic!("files are missing");
    };
    assert_eq!(files.path(Role::Transformer), Some(file.as_path()));
    assert_eq!(files.path(Role::Vae), Some(toy().join("Wan2.1_VAE.pth").as_path()));
    assert_eq!(files.path(Role::Config), Some(toy().join("config.json").as_path()));
    // Another network in the place of the transformer is told as such.
    let vae = toy().join("Wan2.1_VAE.pth");
    let said = locate(&locator, vae.to_str(), None).unwrap_err().to_string();
    assert!(said.contains("looks like a Wan VAE"), "{said}");
}

#[test]
fn files_of_ones_own_are_not_downloaded() {
    let cache = tempfile::tempdir().unwrap();
    let locator = locator(cache.path(), &NO_NETWORK);
    let given = crate::models::GivenPaths {
        transformer: Some(toy().join("diffusion_pytorch_model.safetensors")),
        text_encoder: Some(toy().join("models_t5_umt5-xxl-enc-bf16.pth")),
        ..Default::default()
    };
    let own = OwnFiles::given(&given, DecoderKind::Wan).unwrap();
    let choice = ModelChoice {
        model: Some("self-forcing"),
        preset: None,
        own: Some(&own),
    };
    let located = locator.locate(choice, Needs::default(), &|| false).unwrap();
    let Found::Missing(missing) = locator.files(&located, Needs::default()).unwrap() else {
        panic!("found in an empty cache");
    };
    let files: Vec<_> = missing.iter().map(|source| source.file.as_str()).collect();
    assert_eq!(files, ["Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json"]);
    fill(cache.path(), "self-forcing");
    let Found::Files(files) = locator.files(&located, Needs::default()).unwrap() else {
        panic!("not found in a full cache");
    };
    let listed = files.list(Needs::default());
    let of = |role: Role| listed.iter().find(|file| file.role == role).unwrap();
    assert_eq!(
        (&of(Role::Transformer).path, &of(Role::Transformer).source),
        (given.transformer.as_ref().unwrap(), &None)
    );
    assert!(of(Role::Vae).source.is_some());
    assert_eq!(of(Role::Config).path, toy().join("config.json"));
}
