//! Parity with the reference implementations: walks a folder of golden cases and compares every stored tensor.
//!
//! `tests/golden/` is the default; `DEEPFORCING_GOLDEN=DIR` names another folder. A case is a folder with a
//! `meta.json`; its `kind` chooses the code that runs it. An unknown kind fails; kinds of systems that are not
//! implemented yet are listed in [`PENDING`] and never counted as passed. `DEEPFORCING_TEST_DEVICE=cuda` and
//! `DEEPFORCING_TEST_DTYPE=bf16` run the networks elsewhere, with tolerances for that.

mod parity;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use deepforcing::device::Compute;
use parity::{Case, Run};

/// A kind of golden case.
struct Kind {
    name: &'static str,
    run: Run,
    /// Whether its networks are computed on the device under test; all else is arithmetic of the CPU.
    on_device: bool,
}

const fn on_device(name: &'static str, run: Run) -> Kind {
    Kind {
        name,
        run,
        on_device: true,
    }
}

const fn on_cpu(name: &'static str, run: Run) -> Kind {
    Kind {
        name,
        run,
        on_device: false,
    }
}

/// Kinds that have a runner: a new one is a row here and a file in `parity/`.
const KINDS: &[Kind] = &[
    on_device("causal_forcing", parity::causal_forcing::run),
    on_device("causvid", parity::causvid::run),
    on_cpu("checkpoint_containers", parity::checkpoint::run),
    on_device("dit_bidirectional", parity::transformer::run_bidirectional),
    on_device("dit_forward", parity::transformer::run_forward),
    on_device("longlive", parity::longlive::run),
    on_device("policy", parity::policy::run),
    on_device("rolling_forcing", parity::rolling::run),
    on_device("longlive_lora", parity::lora::run),
    on_device("mg2_action", parity::world::run_action),
    on_device("mg2_clip_visual", parity::world::run_clip),
    on_device("mg2_forward", parity::world::run_forward),
    on_device("mg2_image_condition", parity::world::run_condition),
    on_cpu("mg2_image_preprocess", parity::world::run_preprocess),
    on_device("mg2_rollout", parity::world::run_rollout),
    on_cpu("mg2_streaming_actions", parity::actions::run),
    on_device("rollout", parity::rollout::run),
    on_device("rope", parity::transformer::run_rope),
    on_cpu("schedule_examples", parity::schedule::run_examples),
    on_cpu("scheduler", parity::schedule::run_scheduler),
    on_device("taehv_full", parity::taehv::run),
    on_device("taehv_small", parity::taehv::run),
    on_cpu("text_cleaning", parity::text::cleaning),
    on_cpu("tokenizer", parity::text::tokenizer),
    on_device("umt5", parity::umt5::run),
    on_device("vae", parity::vae::run),
    on_device("weights_end_to_end", parity::weights_end_to_end::run),
    on_cpu("weights_fp8", parity::weights_fp8::run),
    on_cpu("weights_gguf", parity::weights_gguf::run),
    on_cpu("weights_gguf_blocks", parity::weights_gguf::run_blocks),
    on_cpu("weights_layout", parity::weights_layout::run),
    on_cpu("weights_lora", parity::weights_lora::run),
];

/// Kinds of what is still to come.
const PENDING: &[&str] = &[];

fn main() -> ExitCode {
    let root = std::env::var_os("DEEPFORCING_GOLDEN")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    let filter = std::env::args().nth(1).filter(|a| !a.starts_with('-'));
    let mut folders = Vec::new();
    if let Err(error) = find_cases(&root, &mut folders) {
        eprintln!("cannot read {}: {error}", root.display());
        return ExitCode::FAILURE;
    }
    let device = match parity::device_under_test() {
        Ok(device) => device,
        Err(error) => {
            eprintln!("the device under test cannot be used: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    folders.sort();
    if let Some(filter) = filter {
        folders.retain(|f| f.to_string_lossy().contains(&filter));
    }
    let (mut passed, mut failed, mut pending, mut skipped) = (0, 0, 0, 0);
    for folder in &folders {
        match run(&root, folder, &device) {
            Outcome::Passed(compared) => {
                passed += 1;
                println!("pass     {} ({compared} comparisons)", name(&root, folder));
            }
            Outcome::Pending(kind) => {
                pending += 1;
                println!("pending  {} (`{kind}` is not implemented yet)", name(&root, folder));
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                println!("skipped  {} ({reason})", name(&root, folder));
            }
            Outcome::Failed(reasons) => {
                failed += 1;
                println!("FAIL     {}", name(&root, folder));
                for reason in reasons.iter().take(20) {
                    println!("           {reason}");
                }
                if reasons.len() > 20 {
                    println!("           … and {} more", reasons.len() - 20);
                }
            }
        }
    }
    if folders.is_empty() {
        println!("no golden case found in {}", root.display());
        failed = 1;
    }
    let place = device.device.location();
    println!(
        "{passed} passed, {failed} failed, {pending} pending, {skipped} skipped ({place:?}, {})",
        device.dtype.as_str()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

enum Outcome {
    Passed(usize),
    Failed(Vec<String>),
    Pending(String),
    Skipped(&'static str),
}

/// Whether tokens are chosen by score.
fn compresses(case: &Case) -> bool {
    case.kind() == "rollout" && case.meta["cache"]["budget_frames"].is_u64()
}

fn run(root: &Path, folder: &Path, device: &Compute) -> Outcome {
    let mut case = match Case::load(root, folder) {
        Ok(case) => case,
        Err(error) => return Outcome::Failed(vec![format!("{error:#}")]),
    };
    let kind = case.kind();
    if PENDING.contains(&kind.as_str()) {
        return Outcome::Pending(kind);
    }
    let Some(Kind {
        run: runner, on_device, ..
    }) = KINDS.iter().find(|known| known.name == kind)
    else {
        return Outcome::Failed(vec![format!("no runner for kind `{kind}`")]);
    };
    if *on_device {
        case.compute = device.clone();
    }
    if case.inexact() && compresses(&case) {
        return Outcome::Skipped("in bf16, tokens with nearly the same score change places");
    }
    if let Err(error) = runner(&case) {
        case.fail(format!("{error:#}"));
    }
    let (compared, failures) = case.finish();
    if failures.is_empty() {
        Outcome::Passed(compared)
    } else {
        Outcome::Failed(failures)
    }
}

fn find_cases(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if folder.join("meta.json").is_file() {
        found.push(folder.into());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_cases(&path, found)?;
        }
    }
    Ok(())
}

fn name(root: &Path, folder: &Path) -> String {
    folder.strip_prefix(root).unwrap_or(folder).display().to_string()
}
