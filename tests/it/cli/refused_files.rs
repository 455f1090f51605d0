//! Model files that are missing, damaged, hostile or something else.

use std::fs;

use crate::cli::{
    build::{archive, dict, text, tuple, write_zip},
    model::{
        CONFIG, CONTAINER, TEXT_ENCODER, TINY_DECODER, TOKENIZER, TRANSFORMER, Tensors, VAE, save_safetensors,
        save_torch, text_encoder, tokenizer, transformer_of, vae,
    },
    program::Desk,
};

#[test]
fn missing() {
    let desk = Desk::new();
    desk.refused(
        1,
        &["--model-dir", "./nowhere"],
        &["nowhere", "does not exist", "folder"],
    );
    desk.refused(
        2,
        &["--model-dir", "nowhere"],
        &["nowhere", "model folder", "deep-forcing", "toy"],
    );
    let file = desk.model.path(TOKENIZER).display().to_string();
    desk.refused(1, &["--model-dir", &file], &["tokenizer.json", "index"]);
    for (name, flags, role) in [
        (TRANSFORMER, &[][..], "the transformer"),
        (VAE, &[][..], "the VAE"),
        (TINY_DECODER, &["--vae", "tae"][..], "the tiny decoder"),
        (TEXT_ENCODER, &[][..], "the text encoder"),
        (TOKENIZER, &[][..], "the tokenizer"),
    ] {
        let desk = Desk::new();
        desk.model.remove(name);
        desk.refused(1, flags, &[role, "missing", name]);
    }
}

#[test]
fn a_config_of_another_model() {
    for (config, says) in [
        (r#"{"num_heads": 2, "text_len": 16, "dim": 1536}"#, "`dim` is 1536"),
        (
            r#"{"num_heads": 2, "text_len": 16, "num_layers": 30}"#,
            "`num_layers` is 30",
        ),
    ] {
        let desk = Desk::new();
        desk.model.write(CONFIG, config.as_bytes());
        desk.refused(1, &[], &[says, "another model"]);
    }
}

#[test]
fn not_model_files_at_all() {
    let contents: [(&[u8], &str); 5] = [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"Entry not found\n", "Entry not found"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "git-lfs pointer",
        ),
        (b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x09", "unknown kind"),
    ];
    let desk = Desk::new();
    for name in [TRANSFORMER, VAE, TEXT_ENCODER] {
        let good = fs::read(desk.model.path(name)).unwrap();
        for (bytes, says) in contents {
            desk.model.write(name, bytes);
            desk.refused(1, &[], &[name, says]);
        }
        desk.model.write(name, &good);
    }
    desk.model.write(TINY_DECODER, b"");
    desk.refused(1, &["--vae", "tae"], &[TINY_DECODER, "empty"]);
}

#[test]
fn cut_off() {
    let desk = Desk::new();
    for name in [TRANSFORMER, VAE, TEXT_ENCODER] {
        let good = fs::read(desk.model.path(name)).unwrap();
        for length in [good.len() - 1, good.len() / 2, 100] {
            desk.model.write(name, &good[..length]);
            desk.refused(1, &[], &[name, "damaged", "download it again"]);
        }
        desk.model.write(name, &good);
    }
}

#[test]
fn one_network_in_the_place_of_another() {
    let desk = Desk::new();
    save_safetensors(&desk.model.path(TRANSFORMER), &vae());
    desk.refused(1, &[], &[TRANSFORMER, "not a Wan transformer", "looks like a Wan VAE"]);

    let desk = Desk::new();
    save_torch(&desk.model.path(VAE), &text_encoder());
    desk.refused(
        1,
        &[],
        &[VAE, "not a video autoencoder", "looks like a UMT5 text encoder"],
    );

    let desk = Desk::new();
    desk.model.replace(TEXT_ENCODER, TRANSFORMER);
    desk.refused(
        1,
        &[],
        &[TEXT_ENCODER, "not a UMT5 encoder", "looks like a Wan diffusion model"],
    );

    let desk = Desk::new();
    desk.model.replace(TINY_DECODER, TRANSFORMER);
    desk.refused(
        1,
        &["--vae", "tae"],
        &[
            TINY_DECODER,
            "not a video autoencoder",
            "looks like a Wan diffusion model",
        ],
    );

    // Formats mixed up.
    let desk = Desk::new();
    desk.model.replace(VAE, TRANSFORMER);
    desk.refused(1, &[], &[VAE, "a safetensors file", "rename"]);
}

#[test]
fn networks_that_do_not_belong_together() {
    let desk = Desk::new();
    save_safetensors(&desk.model.path(TRANSFORMER), &transformer_of(16, 24));
    desk.refused(1, &[], &["text encoder", "32", "24", TRANSFORMER, TEXT_ENCODER]);
    // Image-to-video models take the image as further channels.
    save_safetensors(&desk.model.path(TRANSFORMER), &transformer_of(36, 32));
    desk.refused(1, &[], &[TRANSFORMER, "36", "16", "text-to-video"]);

    let desk = Desk::new();
    let more = tokenizer().replace(
        r#"["z", -1.0]"#,
        r#"["y", -2.0], ["x", -2.0], ["w", -2.0], ["z", -1.0]"#,
    );
    desk.model.write(TOKENIZER, more.as_bytes());
    desk.refused(1, &["--prompt-given", "zzz"], &["token id 32", "vocabulary"]);
}

#[test]
fn hostile_pickles() {
    let call = [b"cos\nsystem\n", tuple(&[text("touch pwned")]).as_slice(), b"R"].concat();
    let bodies = [call.clone(), dict(&[("generator_ema", dict(&[("x", call)]))])];
    for body in bodies {
        for name in [CONTAINER, VAE, "models_t5_umt5-xxl-enc-bf16.pth"] {
            let desk = Desk::new();
            write_zip(&desk.model.path(name), &archive(&body, &[]));
            desk.refused(1, &[], &[name, "`os.system`", "nothing was executed"]);
        }
    }
}

#[test]
fn tensors_that_are_missing_too_many_or_of_another_shape() {
    const NAME: &str = "blocks.1.ffn.2.weight";
    let desk = Desk::new();
    desk.model.change_transformer(|tensors| drop(tensors.remove(NAME)));
    desk.refused(1, &[], &[TRANSFORMER, "1 missing", NAME]);
    desk.model.change_transformer(|tensors| {
        let tensor = tensors[NAME].clone();
        tensors.insert("blocks.1.ffn.3.weight".into(), tensor);
    });
    desk.refused(1, &[], &[TRANSFORMER, "1 unexpected", "blocks.1.ffn.3.weight"]);
    desk.model
        .change_transformer(|tensors| tensors.get_mut(NAME).unwrap().0.reverse());
    desk.refused(
        1,
        &[],
        &[TRANSFORMER, "1 mis-shaped", NAME, "[96, 48], expected [48, 96]"],
    );

    let in_others = [
        (VAE, vae(), "decoder.middle.0.residual.2.weight"),
        (TEXT_ENCODER, text_encoder(), "blocks.1.attn.o.weight"),
    ];
    for (file, tensors, name) in in_others {
        let desk = Desk::new();
        let save = |tensors: &Tensors| match file {
            VAE => save_torch(&desk.model.path(file), tensors),
            _ => save_safetensors(&desk.model.path(file), tensors),
        };
        let mut changed = tensors.clone();
        changed.remove(name);
        save(&changed);
        desk.refused(1, &[], &[file, "1 missing", name]);
        let mut changed = tensors.clone();
        changed.insert("decoder.surprise".into(), (vec![1], vec![0.0]));
        save(&changed);
        desk.refused(1, &[], &[file, "1 unexpected", "decoder.surprise"]);
        let mut changed = tensors.clone();
        changed.get_mut(name).unwrap().0.push(1);
        save(&changed);
        desk.refused(1, &[], &[file, "1 mis-shaped", name]);
    }
}

#[test]
fn values_that_are_not_finite() {
    let bad = |tensors: &mut Tensors, name: &str, value: f32| tensors.get_mut(name).unwrap().1[7] = value;
    for value in [f32::NAN, f32::INFINITY] {
        let desk = Desk::new();
        desk.model
            .change_transformer(|tensors| bad(tensors, "blocks.0.ffn.0.weight", value));
        desk.refused(1, &[], &[TRANSFORMER, "blocks.0.ffn.0.weight", "not finite"]);
    }
    let desk = Desk::new();
    let mut changed = vae();
    bad(&mut changed, "decoder.head.2.weight", f32::NAN);
    save_torch(&desk.model.path(VAE), &changed);
    desk.refused(1, &[], &[VAE, "decoder.head.2.weight", "not finite"]);

    let desk = Desk::new();
    let mut changed = text_encoder();
    bad(&mut changed, "blocks.1.ffn.fc1.weight", f32::NAN);
    save_safetensors(&desk.model.path(TEXT_ENCODER), &changed);
    desk.refused(1, &[], &[TEXT_ENCODER, "blocks.1.ffn.fc1.weight", "not finite"]);
}

#[test]
fn weights_so_large_that_the_video_is_not_finite() {
    let desk = Desk::new();
    desk.model.change_transformer(|tensors| {
        for (name, (_, values)) in tensors.iter_mut() {
            if name.starts_with("head.head") {
                values.iter_mut().for_each(|value| *value *= 1e38);
            }
        }
    });
    desk.refused(1, &[], &["not finite"]);
}

#[test]
fn tokenizers() {
    let desk = Desk::new();
    let whole = tokenizer();
    let without_end = whole.replace("\"single\": [", "\"single\": [], \"other\": [");
    for broken in ["", "{", "[]", "<html>", &whole[..whole.len() / 2], &without_end] {
        desk.model.write(TOKENIZER, broken.as_bytes());
        desk.refused(1, &[], &[TOKENIZER, "cannot use tokenizer"]);
    }
    desk.model.write(TOKENIZER, whole.replace("</s>", "<end>").as_bytes());
    desk.refused(1, &[], &[TOKENIZER, "no `</s>` token"]);
}
