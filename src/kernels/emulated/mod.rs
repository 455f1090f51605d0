//! The GPU kernels, run on the CPU by an emulator (`cuda/emulator`) and compared with their twins.
//!
//! The sources of the kernels are compiled by the C++ compiler and run thread by thread; launches are those that a GPU
//! would be given. This checks everything but the GPU's own instructions.

#![allow(unsafe_code)]

mod attention;
mod convolution;
mod elementwise;

use std::{
    ffi::{CString, c_char, c_int, c_uint, c_void},
    path::Path,
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use candle_core::{Device, Tensor};
use half::bf16;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::launch::{Arg, Element, Launch};

type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, c_uint, c_uint, *mut *mut c_void, c_uint) -> c_int;

/// Compiles the emulator once per test process. One launch runs at a time.
fn emulator() -> &'static Mutex<libloading::Library> {
    static EMULATOR: OnceLock<Mutex<libloading::Library>> = OnceLock::new();
    EMULATOR.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda/emulator");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = folder.path().join("libemulator.so");
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let output = Command::new(&compiler)
            .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-DKERNEL_EMULATOR", "-I"])
            .arg(&sources)
            .args(["-x", "c++"])
            .arg(sources.join("emulator.cpp"))
            .arg("-o")
            .arg(&library)
            .output()
            .unwrap_or_else(|error| {
                panic!("`{compiler}` cannot be run ({error}): scripts/setup.sh installs a C++ compiler")
            });
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the kernels do not compile: {messages}");
        // SAFETY: the library runs no code of its own when it is loaded.
        Mutex::new(unsafe { libloading::Library::new(&library) }.expect("the compiled emulator loads"))
    })
}

/// Carries out a launch on host memory.
pub(crate) fn run(launch: &Launch) {
    let library = emulator().lock().unwrap_or_else(PoisonError::into_inner);
    let name = CString::new(launch.kernel.as_str()).expect("kernel names hold no zero");
    let mut args: Vec<*mut c_void> = launch.args.iter().map(address).collect();
    // SAFETY: the signature is that of emulator.cpp; kernels get the types they declare, or the test is wrong.
    let status = unsafe {
        let emulate = library
            .get::<Emulate>(b"emulate\0")
            .expect("the emulator has its entry");
        emulate(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block,
            launch.shared,
            args.as_mut_ptr(),
            args.len() as c_uint,
        )
    };
    let problem = match status {
        0 => return,
        1 => "is not in the emulator's table",
        2 => "takes another number of arguments",
        3 => "has threads that wait for each other in vain",
        _ => "was given a block that is not made of whole warps",
    };
    panic!("kernel `{}` {problem}", launch.kernel);
}

/// Where an argument lies.
fn address(arg: &Arg) -> *mut c_void {
    let at: *const c_void = match arg {
        Arg::Pointer(v) => std::ptr::from_ref(v).cast(),
        Arg::Int(v) => std::ptr::from_ref(v).cast(),
        Arg::Unsigned(v) => std::ptr::from_ref(v).cast(),
        Arg::Long(v) => std::ptr::from_ref(v).cast(),
        Arg::Float(v) => std::ptr::from_ref(v).cast(),
        Arg::Conv(v) => std::ptr::from_ref(v).cast(),
    };
    at.cast_mut()
}

/// Memory as a kernel sees it, between guards of NaN that must stay as they are.
pub(crate) struct Memory {
    blocks: Vec<u128>,
    bytes: usize,
}

/// Blocks of 16 bytes before and after.
const GUARD: usize = 8;

impl Memory {
    /// Filled with NaN, so that what is not written shows.
    pub(crate) fn new(bytes: usize) -> Self {
        let blocks = vec![u128::MAX; bytes.div_ceil(16) + 2 * GUARD];
        Self { blocks, bytes }
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut memory = Self::new(bytes.len());
        memory.data_mut().copy_from_slice(bytes);
        memory
    }

    /// Values as elements of a type, rounded if need be.
    pub(crate) fn of(element: Element, values: &[f32]) -> Self {
        let bytes: Vec<u8> = match element {
            Element::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Element::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        };
        Self::of_bytes(&bytes)
    }

    pub(crate) fn of_u32(values: &[u32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::of_bytes(&bytes)
    }

    pub(crate) fn at(&self) -> u64 {
        self.blocks[GUARD..].as_ptr() as u64
    }

    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        // SAFETY: plain bytes within the vector.
        unsafe { std::slice::from_raw_parts_mut(self.blocks[GUARD..].as_mut_ptr().cast(), bytes) }
    }

    /// The data, after checking that nothing was written around it.
    pub(crate) fn data(&self) -> &[u8] {
        // SAFETY: plain bytes within the vector.
        let all: &[u8] = unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.blocks.len() * 16) };
        let (before, rest) = all.split_at(GUARD * 16);
        let (data, after) = rest.split_at(self.bytes);
        assert!(
            before.iter().chain(after).all(|byte| *byte == 0xff),
            "written out of bounds"
        );
        data
    }

    pub(crate) fn values(&self, element: Element) -> Vec<f32> {
        match element {
            Element::F32 => self
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            Element::Bf16 => self
                .data()
                .chunks_exact(2)
                .map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32())
                .collect(),
        }
    }

    pub(crate) fn u32s(&self) -> Vec<u32> {
        self.data()
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }
}

pub(crate) const BOTH: [Element; 2] = [Element::F32, Element::Bf16];

/// Numbers of about 1 that the type can hold exactly, the same for the same seed.
pub(crate) fn numbers(element: Element, count: usize, seed: u64) -> Vec<f32> {
    let mut generator = StdRng::seed_from_u64(seed);
    let round = |v: f32| match element {
        Element::F32 => v,
        Element::Bf16 => bf16::from_f32(v).to_f32(),
    };
    (0..count).map(|_| round(generator.random_range(-2f32..2f32))).collect()
}

pub(crate) fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails unless every value is the wanted one up to rounding: `f32_error` in f32; in bf16 half a unit in the last place
/// more.
pub(crate) fn assert_close(what: &str, element: Element, got: &[f32], want: &[f32], f32_error: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let rounding = if element == Element::Bf16 {
            want.abs() / 256.0
        } else {
            0.0
        };
        let error = (got - want).abs();
        assert!(
            error <= f32_error + rounding,
            "{what} {element:?}: element {i} is {got}, expected {want}"
        );
    }
}
