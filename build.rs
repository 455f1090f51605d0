//! Compiles the CUDA kernels to PTX and makes the program start without CUDA's libraries, when the feature `cuda` is on;
//! does nothing otherwise.
//!
//! `CUDA_COMPUTE_CAP` names the compute capability (80 when unset: PTX for it runs on every newer GPU, too; 90 compiles
//! for Hopper alone, with its own instructions). nvcc is looked for in `NVCC`, `CUDA_HOME`, `CUDA_PATH`, the `PATH` and
//! /usr/local/cuda. With `DEEPFORCING_LINK_CUDA=1` the libraries are linked in the plain way (see `build/on_demand`).

#[cfg(feature = "cuda")]
#[path = "build/link.rs"]
mod link;
#[cfg(feature = "cuda")]
#[path = "build/on_demand/mod.rs"]
mod on_demand;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Folder of the kernels, and the file that includes them all.
const FOLDER: &str = "src/kernels/cuda";
const SOURCE: &str = "kernels.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed={FOLDER}");
    for name in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let done = compile();
    #[cfg(feature = "cuda")]
    let done = done.and_then(|()| link::stand_in(&nvcc()));
    if let Err(problem) = done {
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn compile() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gave no OUT_DIR")?).join("kernels.ptx");
    let capability = capability()?;
    let nvcc = nvcc();
    let run = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17"])
        .arg(format!("-gencode=arch=compute_{capability},code=compute_{capability}"))
        .arg("-o")
        .args([out.as_path(), &Path::new(FOLDER).join(SOURCE)])
        .output()
        .map_err(|error| {
            format!(
                "the feature `cuda` needs NVIDIA's compiler: `{}` cannot be run ({error}).\nInstall the CUDA toolkit \
                 13.0, or make one with scripts/cuda_toolkit.sh FOLDER (no GPU needed), and set CUDA_HOME to it.",
                nvcc.display()
            )
        })?;
    if run.status.success() {
        return Ok(());
    }
    Err(format!(
        "`{}` could not compile {FOLDER}/{SOURCE} for compute capability {capability}:\n{}",
        nvcc.display(),
        String::from_utf8_lossy(&run.stderr)
    ))
}

/// `80`, `90a`, …
fn capability() -> Result<String, String> {
    let wanted = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "80".into());
    let digits = wanted.replace('.', "");
    match digits.trim_end_matches('a').parse::<u32>() {
        Ok(90) => Ok("90a".into()),
        Ok(number) if number >= 80 => Ok(digits),
        _ => Err(format!(
            "CUDA_COMPUTE_CAP is `{wanted}`, expected 80 or more (86, 89, 90, 120, …), as nvidia-smi --query-gpu=compute_cap says"
        )),
    }
}

fn nvcc() -> PathBuf {
    if let Some(named) = env::var_os("NVCC") {
        return named.into();
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let in_homes = homes.map(|home| PathBuf::from(home).join("bin/nvcc"));
    let in_path = env::var_os("PATH").map(|path| {
        env::split_paths(&path)
            .map(|folder| folder.join("nvcc"))
            .collect::<Vec<_>>()
    });
    in_homes
        .chain(in_path.unwrap_or_default())
        .chain([PathBuf::from("/usr/local/cuda/bin/nvcc")])
        .find(|path| path.is_file())
        .unwrap_or_else(|| "nvcc".into())
}
