//! Stands in for CUDA's libraries when the program is linked, so that it starts where they are missing.
//!
//! candle links the libraries, and a program that links a library does not start without it. Here every function of
//! theirs gets a trampoline, which loads its library and finds the function when it is called first (`runtime.c`), as the
//! dynamic loader's own tables do. The linker then has no use for the libraries and leaves them out. Whether there is a
//! GPU is asked before any of it is called (`src/device`).
//!
//! Of candle's own kernels, those for quantised networks are stood in for as well: nothing uses them, they need one more
//! library (cudart), and they are 30 MB.

use std::fmt::Write;

/// A library and its functions.
pub struct Library {
    /// What the dynamic loader looks for: `libcublas.so.13`.
    pub file: String,
    /// One of [`LIBRARIES`].
    pub name: &'static str,
    pub functions: Vec<String>,
}

/// Names of the libraries as the linker takes them, the start of their functions' names, and what their functions
/// return when the library is missing.
pub const LIBRARIES: [(&str, &str, &str); 5] = [
    ("cuda", "cu", "driver"),
    ("cublas", "cublas", "cublas"),
    ("cublasLt", "cublasLt", "cublas"),
    ("curand", "curand", "curand"),
    ("cudnn", "cudnn", "cudnn"),
];

/// Whether `function` is one that `library` offers to programs.
pub fn is_offered(library: &str, function: &str) -> bool {
    let Some((_, start, _)) = LIBRARIES.iter().find(|(name, ..)| *name == library) else {
        return false;
    };
    let rest = function.strip_prefix(start);
    // The driver's are cuInit and so on: nothing of cublas.
    rest.is_some_and(|rest| library != "cuda" || rest.starts_with(|c: char| c.is_ascii_uppercase()))
        && function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What is called in place of a missing function.
fn missing(library: &str, function: &str) -> &'static str {
    let text = ["GetStatusName", "GetStatusString", "GetErrorString"];
    let version = [
        "cublasGetCudartVersion",
        "cublasLtGetCudartVersion",
        "cublasLtGetVersion",
        "cudnnGetCudartVersion",
        "cudnnGetMaxDeviceVersion",
        "cudnnGetVersion",
    ];
    match library {
        "cuda" => "driver",
        _ if text.iter().any(|end| function.ends_with(end)) => "text",
        _ if version.contains(&function) => "version",
        "curand" => "curand",
        "cudnn" => "cudnn",
        _ => "cublas",
    }
}

/// Assembly for x86-64 (System V) of trampolines to all functions of `libraries`. Each has sections of its own, so that
/// the linker keeps those that are called.
pub fn assembly(libraries: &[Library]) -> String {
    let mut text = String::from(FIND);
    for (number, library) in libraries.iter().enumerate() {
        // A string writer does not fail.
        let _ = write!(
            text,
            "\n.section .data.deepforcing_library_{number},\"aw\",@progbits\n.p2align 3\n.Llibrary_{number}: .quad \
             .Lfile_{number}, 0, 0\n.section .rodata.deepforcing_library_{number},\"a\",@progbits\n.Lfile_{number}: .asciz \
             \"{}\"\n",
            library.file
        );
        for function in &library.functions {
            let missing = missing(library.name, function);
            let _ = write!(
                text,
                "\n.section .text.{function},\"ax\",@progbits\n.globl {function}\n.hidden {function}\n.type \
                 {function},@function\n.p2align 4\n{function}:\n movq .Lslot_{function}(%rip), %r11\n jmpq \
                 *%r11\n.Lfind_{function}:\n leaq .Lfunction_{function}(%rip), %r11\n jmp \
                 deepforcing_find\n.size {function}, .-{function}\n.section \
                 .data.{function},\"aw\",@progbits\n.p2align 3\n.Lfunction_{function}: .quad .Lname_{function}, \
                 .Llibrary_{number}, deepforcing_missing_{missing}\n.Lslot_{function}: .quad .Lfind_{function}\n.section \
                 .rodata.{function},\"a\",@progbits\n.Lname_{function}: .asciz \"{function}\"\n"
            );
        }
    }
    for function in left_out() {
        // Weak: where they are there after all, they count.
        let _ = write!(
            text,
            "\n.section .text.{function},\"ax\",@progbits\n.weak {function}\n.hidden {function}\n.type \
             {function},@function\n{function}: jmp deepforcing_left_out\n.size {function}, .-{function}\n"
        );
    }
    text.push_str("\n.section .note.GNU-stack,\"\",@progbits\n");
    text
}

/// Finds the function that %r11 describes and jumps to it, with the caller's arguments as they were. Nothing else may
/// change: registers of arguments are kept, the stack is the caller's again at the jump.
const FIND: &str = "
.section .text.deepforcing_find,\"ax\",@progbits
.hidden deepforcing_find_function
.type deepforcing_find,@function
.p2align 4
deepforcing_find:
 .cfi_startproc
 pushq %rbp
 .cfi_def_cfa_offset 16
 .cfi_offset %rbp, -16
 movq %rsp, %rbp
 .cfi_def_cfa_register %rbp
 subq $192, %rsp
 movq %rdi, 0(%rsp)
 movq %rsi, 8(%rsp)
 movq %rdx, 16(%rsp)
 movq %rcx, 24(%rsp)
 movq %r8, 32(%rsp)
 movq %r9, 40(%rsp)
 movq %rax, 48(%rsp)
 movq %r10, 56(%rsp)
 movaps %xmm0, 64(%rsp)
 movaps %xmm1, 80(%rsp)
 movaps %xmm2, 96(%rsp)
 movaps %xmm3, 112(%rsp)
 movaps %xmm4, 128(%rsp)
 movaps %xmm5, 144(%rsp)
 movaps %xmm6, 160(%rsp)
 movaps %xmm7, 176(%rsp)
 movq %r11, %rdi
 call deepforcing_find_function
 movq %rax, %r11
 movq 0(%rsp), %rdi
 movq 8(%rsp), %rsi
 movq 16(%rsp), %rdx
 movq 24(%rsp), %rcx
 movq 32(%rsp), %r8
 movq 40(%rsp), %r9
 movq 48(%rsp), %rax
 movq 56(%rsp), %r10
 movaps 64(%rsp), %xmm0
 movaps 80(%rsp), %xmm1
 movaps 96(%rsp), %xmm2
 movaps 112(%rsp), %xmm3
 movaps 128(%rsp), %xmm4
 movaps 144(%rsp), %xmm5
 movaps 160(%rsp), %xmm6
 movaps 176(%rsp), %xmm7
 leave
 .cfi_def_cfa %rsp, 8
 jmpq *%r11
 .cfi_endproc
.size deepforcing_find, .-deepforcing_find
";

/// candle's kernels for quantised networks and mixtures of experts, by their C names.
fn left_out() -> Vec<String> {
    let small = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"];
    let formats = small.into_iter().chain(["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"]);
    let mut names: Vec<String> = ["moe_gemm_wmma", "moe_gemm_gguf", "moe_gemm_gguf_prefill"]
        .map(String::from)
        .to_vec();
    names.extend(["D4", "DS4", "D2S6"].map(|layout| format!("launch_mmq_quantize_q8_1_{layout}")));
    let types = ["bf16", "f16", "f32"];
    names.extend(types.map(|dtype| format!("launch_mmvq_gguf_quantize_q8_1_{dtype}")));
    for format in formats {
        names.push(format!("launch_mmq_gguf_{format}"));
        names.extend(types.map(|dtype| format!("launch_mmvq_gguf_{format}_{dtype}_plain")));
    }
    names
}
