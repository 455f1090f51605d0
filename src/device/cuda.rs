//! GPUs through CUDA: what is there, and opening one.
//!
//! Libraries are looked for by name before anything of CUDA is called: the program starts without them (`build/on_demand`),
//! and a call whose library is missing would fail with a number that tells nobody what to install.

#![allow(unsafe_code)]

use std::path::PathBuf;

use candle_core::{
    CudaDevice, Device,
    cuda_backend::{
        cudarc::driver::{CudaContext, result, sys},
        kernels,
    },
};
use libloading::{Library as Handle, Symbol};

use super::{
    DeviceChoice, DeviceError, DeviceMemory,
    probe::{Gpu, Library, Probe, Target},
};
use crate::files::python;

/// A library's function that gives its version.
enum Version {
    /// `int f(int *version)`: 0 is success.
    Out(&'static [u8]),
    /// `size_t f(void)`.
    Returned(&'static [u8]),
    Unknown,
}

const DRIVER_TODO: &str = "install the NVIDIA driver (version 580 or later for CUDA 13); in a container, start it with \
                           the GPU (--gpus all)";
const LIBRARY_TODO: &str = "install the CUDA libraries of the version that this program was built for, or put their \
                            folder into LD_LIBRARY_PATH (those of a PyTorch with CUDA do); a wheel's extra [cuda] brings them";
const CUDNN_TODO: &str = "install cuDNN 9.15 or later (pip install nvidia-cudnn-cu13) and put its folder into \
                          LD_LIBRARY_PATH, or build with --features cuda alone";

/// Fills in what the machine has.
pub(super) fn probe(probe: &mut Probe) {
    probe.built_for = i32::try_from(sys::CUDA_VERSION).ok();
    // candle may have been compiled for another kind of GPU: without CUDA_COMPUTE_CAP, for that of the building machine.
    let modules = [crate::kernels::cuda::PTX, kernels::FILL.ptx()];
    probe.kernels = modules.into_iter().filter_map(Target::of_ptx).collect();
    let major = probe.built_for.unwrap_or(13000) / 1000;
    let (cublas, cublas_lt): (&[&str], &[&str]) = match major {
        12 => (&["libcublas.so.12"], &["libcublasLt.so.12"]),
        _ => (&["libcublas.so.13"], &["libcublasLt.so.13"]),
    };
    let (driver, driver_version) = look(
        "the NVIDIA driver",
        &["libcuda.so.1"],
        DRIVER_TODO,
        &Version::Out(b"cuDriverGetVersion"),
    );
    probe.driver_runs = driver_version;
    probe.libraries.push(driver);
    probe.libraries.push(
        look(
            "cuBLASLt",
            cublas_lt,
            LIBRARY_TODO,
            &Version::Returned(b"cublasLtGetVersion"),
        )
        .0,
    );
    probe
        .libraries
        .push(look("cuBLAS", cublas, LIBRARY_TODO, &Version::Unknown).0);
    probe.libraries.push(
        look(
            "cuRAND",
            &["libcurand.so.10"],
            LIBRARY_TODO,
            &Version::Out(b"curandGetVersion"),
        )
        .0,
    );
    if cfg!(feature = "cudnn") {
        probe.libraries.push(
            look(
                "cuDNN",
                &["libcudnn.so.9"],
                CUDNN_TODO,
                &Version::Returned(b"cudnnGetVersion"),
            )
            .0,
        );
    }
    if probe.obstacle().is_some() {
        return;
    }
    match gpus() {
        Ok(gpus) => probe.gpus = gpus,
        Err(error) => {
            probe.failure = Some(format!(
                "the NVIDIA driver does not work ({error}): `nvidia-smi` should say why; in a container, start it with the \
                 GPU (--gpus all)"
            ));
        }
    }
}

/// Looks for a library and asks it for its version.
fn look(
    name: &'static str,
    files: &'static [&'static str],
    todo: &'static str,
    version: &Version,
) -> (Library, Option<i32>) {
    let mut library = Library {
        name,
        files,
        found: None,
        version: None,
        todo,
    };
    // By name first, as the dynamic loader looks for it; then those of the Python environment that this program is in.
    // Whoever looks for one by name later gets the one that is loaded.
    let by_name = files.iter().map(PathBuf::from);
    let beside = files.iter().flat_map(|file| python::nvidia_libraries(file));
    for file in by_name.chain(beside) {
        // SAFETY: initialisers of NVIDIA's libraries have no preconditions; they are loaded to be used anyway.
        let Ok(handle) = (unsafe { Handle::new(&file) }) else {
            continue;
        };
        library.found = Some(file);
        let number = number(&handle, version);
        library.version = number.map(|number| match version {
            Version::Out(b"cuDriverGetVersion") => format!("CUDA {}", super::probe::version_text(number)),
            _ => number.to_string(),
        });
        // It stays loaded: its threads may be running.
        std::mem::forget(handle);
        return (library, number);
    }
    (library, None)
}

fn number(handle: &Handle, version: &Version) -> Option<i32> {
    match version {
        Version::Unknown => None,
        Version::Out(function) => {
            // SAFETY: the function has this signature in all versions of its library.
            let function: Symbol<unsafe extern "C" fn(*mut i32) -> i32> = unsafe { handle.get(*function) }.ok()?;
            let mut number = 0;
            // SAFETY: `number` outlives the call.
            (unsafe { function(&mut number) } == 0).then_some(number)
        }
        Version::Returned(function) => {
            // SAFETY: the function has this signature in all versions of its library.
            let function: Symbol<unsafe extern "C" fn() -> usize> = unsafe { handle.get(*function) }.ok()?;
            // SAFETY: it takes nothing and changes nothing.
            i32::try_from(unsafe { function() }).ok()
        }
    }
}

fn gpus() -> Result<Vec<Gpu>, result::DriverError> {
    result::init()?;
    let count = result::device::get_count()?;
    (0..count)
        .map(|number| {
            let device = result::device::get(number)?;
            let attribute = |which| {
                // SAFETY: the device is one that the driver gave.
                unsafe { result::device::get_attribute(device, which) }
            };
            Ok(Gpu {
                name: result::device::get_name(device)?,
                // SAFETY: as above.
                memory: unsafe { result::device::total_mem(device)? } as u64,
                compute_capability: (
                    attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                ),
            })
        })
        .collect()
}

/// Opens a GPU with one stream of its own: candle's default is a stream per thread, and work of two threads on one tensor
/// would race. Freed memory stays with the process, in place of being given back at every synchronisation.
pub(super) fn open(number: usize) -> Result<Device, DeviceError> {
    let asked = DeviceChoice::Cuda(number);
    let refused = |reason: String| DeviceError::Open { asked, reason };
    let device = Device::new_cuda_with_stream(number).map_err(|error| refused(error.to_string()))?;
    if let Device::Cuda(cuda) = &device {
        // SAFETY: all work of this device is on its one stream, so nothing has to wait for anything.
        unsafe { cuda.disable_event_tracking() };
        keep_freed_memory(cuda).map_err(|error| refused(error.to_string()))?;
    }
    Ok(device)
}

fn context(device: &CudaDevice) -> std::sync::Arc<CudaContext> {
    device.cuda_stream().context().clone()
}

fn pool(device: &CudaDevice) -> Result<sys::CUmemoryPool, result::DriverError> {
    let context = context(device);
    context.bind_to_thread()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device is open; the pool lives as long as it does.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()) }.result()?;
    Ok(pool)
}

fn keep_freed_memory(device: &CudaDevice) -> Result<(), result::DriverError> {
    // Where there are no pools, as on some virtual GPUs, memory is taken and given back at once.
    if !context(device).has_async_alloc() {
        return Ok(());
    }
    let pool = pool(device)?;
    let mut threshold = u64::MAX;
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the attribute is a 64-bit number.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()) }.result()
}

pub(super) fn memory(device: &CudaDevice) -> Option<DeviceMemory> {
    let (free, total) = context(device).mem_get_info().ok()?;
    let pool = pool(device).ok()?;
    let number = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: the attributes asked for are 64-bit numbers.
        let result = unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) };
        result.result().ok().map(|()| bytes)
    };
    Some(DeviceMemory {
        total: total as u64,
        free: free as u64,
        used: number(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        used_high: number(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        reserved_high: number(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
    })
}
