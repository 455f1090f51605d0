//! Flags of other programs, and what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names without dashes, and what to do instead.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &["length", "duration", "num-seconds", "video-seconds", "time"],
        "the length is given by --seconds (60, 90s, 1:30), or in frames by --frames",
    ),
    (
        &[
            "frame-num",
            "num-frame",
            "video-length",
            "n-frames",
            "num-output-frames",
        ],
        "the length in frames is given by --frames, that in seconds by --seconds",
    ),
    (
        &["width", "height", "resolution", "res", "w", "h", "aspect-ratio"],
        "the size is given by --size WIDTHxHEIGHT, for example --size 832x480",
    ),
    (
        &[
            "ckpt",
            "ckpt-dir",
            "ckpt-path",
            "checkpoint",
            "checkpoint-path",
            "model-path",
            "weights",
            "pretrained-model-name-or-path",
        ],
        "the model is given by --model: a preset's name, a file, a folder of model files or ORG/REPO of the hub",
    ),
    (
        &[
            "dit",
            "dit-path",
            "unet",
            "diffusion-model",
            "transformer-path",
            "checkpoint-transformer",
        ],
        "weights of the transformer are given by --transformer FILE",
    ),
    (
        &["vae-path", "vae-ckpt", "vae-checkpoint"],
        "weights of the VAE are given by --vae-file FILE",
    ),
    (
        &["t5", "t5-path", "text-encoder-path", "umt5", "clip"],
        "weights of the text encoder are given by --text-encoder FILE",
    ),
    (
        &["force", "y", "yes", "f"],
        "files that exist are replaced with --overwrite",
    ),
    (
        &[
            "cfg",
            "cfg-scale",
            "guidance-scale",
            "guidance",
            "sample-guide-scale",
            "negative-prompt",
            "n-prompt",
        ],
        "there is none: these models are distilled to work without guidance, in a few steps, and take no negative prompt",
    ),
    (
        &["lora-path", "lora-scale", "lora-weights", "loras"],
        "a LoRA and its strength are given by --lora FILE[:STRENGTH], several by several",
    ),
    (
        &["sample-steps", "sampling-steps", "inference-steps", "n-steps"],
        "the number of denoising steps is given by --num-steps, their positions by --steps",
    ),
    (
        &["prompt", "text", "p"],
        "the prompt stands without a flag: deepforcing generate \"a red ball\"; prompts in a file: --prompt-file FILE",
    ),
    (
        &[
            "out",
            "save-file",
            "output-file",
            "output-path",
            "save-path",
            "output-dir",
            "outdir",
            "output-folder",
        ],
        "the output is given by -o",
    ),
    (
        &["base-seed", "manual-seed", "random-seed"],
        "the seed is given by --seed",
    ),
    (
        &["frame-rate", "framerate", "rate"],
        "frames per second are given by --fps",
    ),
    (
        &["input-image", "image-path", "first-frame", "init-image", "i2v"],
        "a first picture is given by --image FILE",
    ),
    (
        &["video", "input-video", "init-video", "v2v"],
        "a clip to go on from is given by --extend FILE",
    ),
    (
        &["gpu", "gpus", "device-id", "cuda"],
        "the device is given by --device, for example --device cuda:0",
    ),
    (
        &["precision", "half", "fp16", "bf16", "torch-dtype"],
        "the number format is given by --dtype f32 or --dtype bf16",
    ),
    (
        &[
            "offload-model",
            "offload",
            "low-vram",
            "lowvram",
            "t5-cpu",
            "vae-tiling",
            "enable-model-cpu-offload",
        ],
        "less memory is used with --max-vram SIZE, for example --max-vram 12GB",
    ),
    (
        &["batch-size", "num-samples", "num-videos", "num-outputs", "n-samples"],
        "several videos of each prompt are made by `deepforcing batch FILE -o DIR --samples N`",
    ),
    (&["sink-size", "num-sink"], "the sink's size is given by --sink"),
    (
        &["local-attn-size", "window-size", "attention-window"],
        "the window is given by --window",
    ),
    (
        &["timestep-shift", "flow-shift", "sample-shift"],
        "the timestep shift is given by --shift",
    ),
    (
        &["config", "config-path", "config-file"],
        "the config file is named by the variable DEEPFORCING_CONFIG",
    ),
];

/// Puts what a flag of another program is called here into the message about it.
pub(super) fn explain(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    if let Some(told) = told(flag) {
        // A name that merely looks alike leads astray.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::TrailingArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![told.into()]));
    }
    error
}

fn told(flag: &str) -> Option<&'static str> {
    let name = flag.split('=').next().unwrap_or(flag).trim_start_matches('-');
    let name = name.to_lowercase().replace('_', "-");
    let known = FLAGS.iter().find(|(names, _)| names.contains(&name.as_str()));
    known.map(|(_, told)| *told)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn message(words: &[&str]) -> String {
        let error = crate::cli::definition().try_get_matches_from(words).unwrap_err();
        explain(error).to_string()
    }

    #[test]
    fn flags_of_other_programs_are_explained() {
        for (flag, says, not) in [
            ("--length", "--seconds", "--trace"),
            ("--frame_num=81", "--frames", "--fps"),
            ("--width", "--size", "--switch"),
            ("--ckpt", "--model", "--crf"),
            ("-y", "--overwrite", "-- -y"),
            ("--force", "--overwrite", "--format"),
            ("--guidance-scale", "without guidance", "--max-vram"),
            ("--negative_prompt", "no negative prompt", "--encoder"),
            ("--lora-path", "--lora FILE", "--color"),
        ] {
            let said = message(&["deepforcing", "generate", "a", flag]);
            let tip = said.split("tip: ").nth(1).unwrap_or_default();
            let tip = tip.split("Usage:").next().unwrap_or_default();
            assert!(tip.contains(says) && !tip.contains(not), "{flag}: {said}");
        }
    }

    #[test]
    fn a_slip_is_still_corrected() {
        let said = message(&["deepforcing", "generate", "a", "--secnods", "3"]);
        assert!(said.contains("--seconds"), "{said}");
    }

    #[test]
    fn no_name_here_is_called_foreign() {
        let generate = crate::cli::Cli::command();
        let generate = generate.find_subcommand("generate").unwrap();
        for argument in generate.get_arguments() {
            let names = argument.get_long_and_visible_aliases().unwrap_or_default();
            for name in names {
                assert_eq!(told(name), None, "{name}");
            }
        }
        for (at, (names, _)) in FLAGS.iter().enumerate() {
            let before = FLAGS[..at].iter().flat_map(|(names, _)| names.iter());
            let before: Vec<_> = before.collect();
            assert!(names.iter().all(|name| !before.contains(&name)), "{names:?}");
        }
    }
}
