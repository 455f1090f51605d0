//! Videos of models that are not on this machine yet.

use std::fs;

use crate::cli::{
    model::{CONFIG, TEXT_ENCODER, TOKENIZER, TRANSFORMER, VAE},
    program::{Desk, decoded, program},
    server::{COMMIT, REPO, Server},
};

/// A preset whose files are those of the desk's model, published by `server`.
fn publish(desk: &Desk, server: &Server) {
    let mut sources = String::from("\n[sources]\n");
    for (role, name) in [
        ("transformer", TRANSFORMER),
        ("vae", VAE),
        ("text-encoder", TEXT_ENCODER),
        ("tokenizer", TOKENIZER),
        ("config", CONFIG),
    ] {
        let content = fs::read(desk.model.path(name)).unwrap();
        let sha256 = server.large(name, &content);
        sources.push_str(&format!(
            "{role} = {{ repo = \"{REPO}\", file = \"{name}\", revision = \"{COMMIT}\", bytes = {}, sha256 = \"{sha256}\" }}\n",
            content.len()
        ));
    }
    let toy = include_str!("../../../configs/toy.toml");
    fs::write(desk.video("mine.toml"), format!("{toy}{sources}")).unwrap();
}

#[test]
fn a_model_is_downloaded_once_after_saying_how_much() {
    let desk = Desk::new();
    let server = Server::start();
    publish(&desk, &server);
    let generate = |offline: &str, name: &str| {
        let mut command = program();
        command
            .current_dir(desk.video(""))
            .env("HF_HUB_CACHE", desk.video("cache"));
        command
            .env("HF_ENDPOINT", server.endpoint())
            .env("HF_HUB_OFFLINE", offline);
        let words = [
            "generate",
            "a red ball",
            "--model",
            "mine.toml",
            "--size",
            "32x32",
            "--seconds",
            "1",
            "-o",
            name,
        ];
        command.args(words).output().unwrap()
    };
    let output = generate("1", "out.mp4");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("HF_HUB_OFFLINE") && server.requests().is_empty(),
        "{stderr}"
    );

    let output = generate("0", "out.mp4");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let (needs, loading) = (stderr.find("needs").unwrap(), stderr.find("loading the model").unwrap());
    assert!(needs < loading && stderr.contains(TRANSFORMER), "{stderr}");
    assert_eq!(decoded(&desk.video("out.mp4")).frames.len(), 16);

    // Now it is there, without a network.
    let transfers = server.transfers().len();
    let output = generate("1", "again.mp4");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.transfers().len(), transfers);
    // The recipe names where the files came from.
    let recipe = desk.run(&["inspect", "again.mp4", "--json"]).stdout;
    let recipe: serde_json::Value = serde_json::from_slice(&recipe).unwrap();
    assert_eq!(recipe["model"]["files"][0]["repo"], REPO);
    assert_eq!(recipe["model"]["files"][0]["revision"], COMMIT);
}
