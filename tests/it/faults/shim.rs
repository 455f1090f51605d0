//! The library that is put between the program and the system (`shim.c`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// A fault: the call that fails, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// From 1.
    pub call: usize,
    /// The system's number of the error.
    pub errno: i32,
    /// Whether later calls succeed.
    pub once: bool,
}

/// Where the built shim is; it is built once.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Another process of the same tests may build it at the same time.
        let (library, draft) = (
            folder.join("faults.so"),
            folder.join(format!("faults-{}.so", std::process::id())),
        );
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&draft, &source])
            .arg("-ldl")
            .status()
            .expect("a C compiler");
        assert!(built.success());
        fs::rename(draft, &library).unwrap();
        library
    })
}

/// Runs `program` with `fault` in what it writes into `folder`; gives its output and the number of such calls.
pub fn run(mut program: Command, folder: &Path, fault: Option<Fault>) -> (Output, usize) {
    let scratch = tempfile::tempdir().unwrap();
    let count = scratch.path().join("count");
    program
        .env("LD_PRELOAD", library())
        .env("FAULT_DIR", fs::canonicalize(folder).unwrap())
        .env("FAULT_COUNT", &count);
    if let Some(fault) = fault {
        program
            .env("FAULT_AT", fault.call.to_string())
            .env("FAULT_ERRNO", fault.errno.to_string());
        if fault.once {
            program.env("FAULT_ONCE", "1");
        }
    }
    let output = program.output().unwrap();
    let count = fs::read_to_string(count).unwrap_or_default();
    (output, count.trim().parse().unwrap_or(0))
}
