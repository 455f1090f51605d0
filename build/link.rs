//! Puts the trampolines of `on_demand` between the program and CUDA's libraries.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use object::{Object, ObjectSymbol, read::elf::ElfFile64};

use crate::on_demand::{LIBRARIES, Library, assembly, is_offered};

/// Set to link the libraries in the plain way.
const PLAIN: &str = "DEEPFORCING_LINK_CUDA";

/// Where libraries lie in a toolkit or under /usr.
const FOLDERS: [&str; 6] = [
    "lib64",
    "lib",
    "lib/x86_64-linux-gnu",
    "targets/x86_64-linux/lib",
    "lib64/stubs",
    "lib/stubs",
];

/// Makes the trampolines for the libraries of this toolkit. Where they cannot be made, the program is linked with the
/// libraries, and a warning says so.
///
/// # Errors
/// When files cannot be written.
pub fn stand_in(nvcc: &Path) -> Result<(), String> {
    for name in [PLAIN, "LIBRARY_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let wanted = env::var_os(PLAIN).is_none_or(|value| value.is_empty() || value == "0");
    if !wanted || target("OS") != "linux" || target("ARCH") != "x86_64" {
        return Ok(());
    }
    let cudnn = env::var_os("CARGO_FEATURE_CUDNN").is_some();
    let folders = folders(nvcc);
    let mut libraries = Vec::new();
    for (name, ..) in LIBRARIES.into_iter().filter(|(name, ..)| cudnn || *name != "cudnn") {
        match folders.iter().find_map(|folder| read(name, folder)) {
            Some(library) => libraries.push(library),
            None => {
                println!(
                    "cargo::warning=lib{name}.so was not found beside {}: the program will start only where CUDA's \
                     libraries are",
                    nvcc.display()
                );
                return Ok(());
            }
        }
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo gave no OUT_DIR")?);
    let trampolines = out.join("trampolines.s");
    fs::write(&trampolines, assembly(&libraries)).map_err(|error| format!("{}: {error}", trampolines.display()))?;
    cc::Build::new()
        .file(&trampolines)
        .file("build/on_demand/runtime.c")
        .warnings_into_errors(true)
        .flag("-fvisibility=hidden")
        .cargo_metadata(false)
        .try_compile("deepforcing_on_demand")
        .map_err(|error| error.to_string())?;
    println!("cargo::rustc-link-search=native={}", out.display());
    // Whole, and so before candle's own request for the libraries: nothing is left that these could give.
    println!("cargo::rustc-link-lib=static:+whole-archive=deepforcing_on_demand");
    Ok(())
}

fn folders(nvcc: &Path) -> Vec<PathBuf> {
    let beside = nvcc.parent().and_then(Path::parent).map(Path::to_owned);
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let roots = homes.map(PathBuf::from).chain(beside).chain([PathBuf::from("/usr")]);
    let in_roots = roots.flat_map(|root| FOLDERS.map(|folder| root.join(folder)));
    let path = env::var_os("LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = in_roots.chain(env::split_paths(&path)).collect();
    folders.retain(|folder| folder.is_dir());
    folders
}

/// What `lib{name}.so` in `folder` calls itself and offers.
fn read(name: &'static str, folder: &Path) -> Option<Library> {
    let bytes = fs::read(folder.join(format!("lib{name}.so"))).ok()?;
    let elf = ElfFile64::<object::Endianness>::parse(&*bytes).ok()?;
    let table = elf.elf_dynamic_table().ok()?;
    let soname = table.iter().find(|entry| entry.tag == object::elf::DT_SONAME)?;
    let soname = table.string(soname).ok()?;
    let mut functions: Vec<String> = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .filter(|function| is_offered(name, function))
        .collect();
    functions.sort_unstable();
    functions.dedup();
    Some(Library {
        file: String::from_utf8(soname.to_vec()).ok()?,
        name,
        functions,
    })
}
