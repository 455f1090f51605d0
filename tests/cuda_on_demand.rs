//! Programs that stand in for CUDA's libraries (`build/on_demand`) start without them and find them when they are there.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../build/on_demand/mod.rs"]
mod on_demand;

use std::{fs, path::Path, process::Command};

use on_demand::{LIBRARIES, Library, assembly, is_offered};

/// A library with functions that use every way of passing arguments: registers of both kinds and the stack.
const SOURCE: &str = r#"
double curandMix(int a, double x, long b, float y, int c, double z, short d, int e, int f, int g, int h, double w) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 10 * x + 100 * y + 1000 * z + 10000 * w;
}
int curandCount(void) { static int calls; return ++calls; }
struct wide { long a, b, c; };
struct wide curandWide(struct wide in, double k) { return (struct wide){in.c, in.b, (long)k}; }
"#;

/// Calls each of them twice: the first call finds the function, the second is direct.
const PROGRAM: &str = r#"
#include <pthread.h>
#include <stdio.h>
double curandMix(int, double, long, float, int, double, short, int, int, int, int, double);
int curandCount(void);
struct wide { long a, b, c; };
struct wide curandWide(struct wide, double);
int curandAbsent(int);
const char *cublasLtGetStatusString(int);
unsigned long cublasLtGetVersion(void);
int cuInit(unsigned);
int cudnnSetStream(void *, void *);
void launch_mmq_gguf_q4_0(void);
static void *call(void *unused) { curandAbsent(1); return unused; }
int main(int argc, char **argv) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, call, 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    if (argc > 1) {
        for (int i = 0; i < 2; i++) printf("%.1f ", curandMix(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
        curandCount();
        struct wide out = curandWide((struct wide){1, 2, 3}, 4);
        printf("%d %ld%ld%ld ", curandCount(), out.a, out.b, out.c);
    }
    printf("%d %d %d %s %lu\n", curandAbsent(1), cuInit(0), cudnnSetStream(0, 0), cublasLtGetStatusString(0) ? "text" : "",
           cublasLtGetVersion());
    fflush(stdout);
    if (argc > 2) launch_mmq_gguf_q4_0();
    return 0;
}
"#;

fn cc(folder: &Path, args: &[&str]) {
    let output = Command::new("cc").args(args).current_dir(folder).output();
    let output = output.expect("a C compiler, which scripts/setup.sh installs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc {args:?}: {messages}");
}

/// The program above, linked with the library behind the trampolines; the library itself lies in `there`.
fn build(folder: &Path) {
    fs::create_dir(folder.join("there")).unwrap();
    let library = |name, file: &str, functions: &[&str]| Library {
        file: file.to_owned(),
        name,
        functions: functions.iter().map(ToString::to_string).collect(),
    };
    let curand = [
        "curandMix",
        "curandCount",
        "curandWide",
        "curandAbsent",
        "curandNeverCalled",
    ];
    let text = assembly(&[
        library("curand", "libof_this_test.so.1", &curand),
        library("cuda", "libnot_there.so.1", &["cuInit"]),
        library(
            "cublasLt",
            "libnor_this.so.1",
            &["cublasLtGetStatusString", "cublasLtGetVersion"],
        ),
        library("cudnn", "libnor_that.so.1", &["cudnnSetStream"]),
    ]);
    fs::write(folder.join("trampolines.s"), text).unwrap();
    fs::write(folder.join("library.c"), SOURCE).unwrap();
    fs::write(folder.join("program.c"), PROGRAM).unwrap();
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/on_demand/runtime.c");
    let soname = "-Wl,-soname,libof_this_test.so.1";
    cc(
        folder,
        &[
            "-shared",
            "-fPIC",
            soname,
            "-o",
            "there/libof_this_test.so.1",
            "library.c",
        ],
    );
    let sources = [
        "-O1",
        "-o",
        "program",
        "program.c",
        "trampolines.s",
        runtime.to_str().unwrap(),
    ];
    let linked = [
        "-Wl,--gc-sections",
        "-Wl,--as-needed",
        "there/libof_this_test.so.1",
        "-ldl",
        "-lpthread",
    ];
    cc(folder, &[&sources[..], &linked[..]].concat());
}

#[test]
fn a_library_is_found_when_it_is_there_and_missed_politely_when_not() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let run = |args: &[&str], libraries: &str| {
        Command::new(folder.path().join("program"))
            .args(args)
            .current_dir(folder.path())
            .env("LD_LIBRARY_PATH", libraries)
            .output()
            .unwrap()
    };
    // Starts without the library, which it therefore does not need; what is missing returns its library's error.
    let without = run(&[], "nowhere");
    assert!(without.status.success());
    let missing = "203 34 1001 text 0\n";
    assert_eq!(String::from_utf8_lossy(&without.stdout), missing);
    // 1 + 6 + 15 + 28 + 40 + 54 + 70 + 88 + 20 + 400 + 6000 + 120000
    let with = run(&["all"], "there");
    assert_eq!(
        String::from_utf8_lossy(&with.stdout),
        format!("126722.0 126722.0 2 324 {missing}")
    );
    // What was left out says so and stops.
    let left_out = run(&["all", "quantised"], "there");
    assert!(!left_out.status.success());
    let message = String::from_utf8_lossy(&left_out.stderr).into_owned();
    assert!(message.contains("quantised networks are not part"), "{message}");
}

#[test]
fn functions_belong_to_the_library_whose_name_they_have() {
    for (library, function, offered) in [
        ("cuda", "cuInit", true),
        ("cuda", "cuMemAllocAsync_ptsz", true),
        ("cuda", "cublasCreate_v2", false),
        ("cuda", "cudbgGetAPI", false),
        ("cublas", "cublasGemmEx", true),
        ("cudnn", "_ZN5cudnnE", false),
        ("curand", "curand.version", false),
        ("nvrtc", "nvrtcVersion", false),
    ] {
        assert_eq!(is_offered(library, function), offered, "{library} {function}");
    }
    assert!(
        LIBRARIES
            .iter()
            .all(|(name, start, _)| name.starts_with(start) || *name == "cuda")
    );
}
