//! Where a run computes and in which number format: what was asked for, what this build and this machine can do.
//!
//! | file | what it holds |
//! |---|---|
//! | `probe` | what is there: driver, libraries, GPUs |
//! | `cuda` | opening a GPU (builds with the feature `cuda`) |
//!
//! Nothing here touches a GPU before [`Selection::open`], so that plans of dry runs cost nothing.

#[cfg(feature = "cuda")]
mod cuda;
mod probe;

use std::{fmt, str::FromStr};

use candle_core::{DType, Device, DeviceLocation};

pub use probe::{Gpu, Library, Probe, Target};

/// Where a user wants to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// A GPU by its number.
    Cuda(usize),
}

impl DeviceChoice {
    /// Forms accepted on a command line.
    pub const NAMES: &'static [&'static str] = &["auto", "cpu", "cuda", "cuda:N"];
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected one of {}", Self::NAMES.join(", "));
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(expected)?;
                Ok(Self::Cuda(number.parse().map_err(|_| expected())?))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The number format that a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// f32 on the CPU, bf16 on a GPU.
    #[default]
    Auto,
    F32,
    Bf16,
}

impl DtypeChoice {
    /// Names accepted on a command line.
    pub const NAMES: &'static [&'static str] = &["auto", "f32", "bf16"];
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A build without CUDA.
    #[error(
        "this program was built without CUDA, so it cannot compute on `{asked}`; build it with `cargo build --release \
         --features cuda,cudnn` (see docs/guide/gpu.md), or take --device cpu"
    )]
    NotBuilt { asked: DeviceChoice },
    /// Driver or libraries are missing, or the kernels are for other GPUs.
    #[error("`{asked}` cannot be used: {reason}; or take --device cpu")]
    Missing { asked: DeviceChoice, reason: String },
    /// A GPU that is not there.
    #[error("there is no `{asked}`: this machine has {count} GPU{}, counted from cuda:0", if *count == 1 { "" } else { "s" })]
    NoSuchGpu { asked: DeviceChoice, count: usize },
    /// A number format that the device has no kernels for.
    #[error("bf16 is computed on GPUs alone; on the CPU take --dtype f32 (or auto)")]
    Bf16OnCpu,
    /// The driver refused.
    #[error("`{asked}` could not be opened: {reason}; `nvidia-smi` shows whether the GPU is in order and free")]
    Open { asked: DeviceChoice, reason: String },
}

impl DeviceError {
    /// Whether another flag or build is what helps.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NotBuilt { .. } | Self::NoSuchGpu { .. } | Self::Bf16OnCpu)
    }
}

/// Where a run will compute: decided, not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Number of the GPU; `None` is the CPU.
    gpu: Option<usize>,
    dtype: DType,
    /// Whether prompts are read on the CPU, to need less memory of the GPU.
    pub text_on_cpu: bool,
    /// What the user should be told: why it is not a GPU.
    pub note: Option<String>,
}

impl Selection {
    /// The CPU in f32.
    pub fn cpu() -> Self {
        Self {
            gpu: None,
            dtype: DType::F32,
            text_on_cpu: false,
            note: None,
        }
    }

    /// What is asked for, on this machine.
    ///
    /// # Errors
    /// When it cannot be had; `auto` takes the CPU instead.
    pub fn choose(device: DeviceChoice, dtype: DtypeChoice) -> Result<Self, DeviceError> {
        // Looking for libraries loads them: not when the CPU is wanted.
        match device {
            DeviceChoice::Cpu => Self::decide(device, dtype, &Probe::none()),
            _ => Self::decide(device, dtype, &Probe::of_machine()),
        }
    }

    /// The same on a machine that `probe` describes.
    ///
    /// # Errors
    /// As [`Selection::choose`].
    pub fn decide(device: DeviceChoice, dtype: DtypeChoice, probe: &Probe) -> Result<Self, DeviceError> {
        let asked = device;
        let (gpu, note) = match (device, probe.built) {
            (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, false) => (None, None),
            (DeviceChoice::Cuda(_), false) => return Err(DeviceError::NotBuilt { asked }),
            (DeviceChoice::Auto, true) => match probe.obstacle() {
                None if probe.gpus.is_empty() => (None, Some("there is no GPU; computing on the CPU".to_string())),
                None => ((0..probe.gpus.len()).find(|gpu| probe.unfit(*gpu).is_none()), None),
                Some(obstacle) => (None, Some(format!("no GPU is used: {obstacle}; computing on the CPU"))),
            },
            (DeviceChoice::Cuda(number), true) => {
                if let Some(reason) = probe.obstacle() {
                    return Err(DeviceError::Missing { asked, reason });
                }
                let count = probe.gpus.len();
                if number >= count {
                    return Err(DeviceError::NoSuchGpu { asked, count });
                }
                if let Some(reason) = probe.unfit(number) {
                    return Err(DeviceError::Missing { asked, reason });
                }
                (Some(number), None)
            }
        };
        let dtype = match (dtype, gpu) {
            (DtypeChoice::Auto, None) | (DtypeChoice::F32, _) => DType::F32,
            (DtypeChoice::Auto | DtypeChoice::Bf16, Some(_)) => DType::BF16,
            (DtypeChoice::Bf16, None) => return Err(DeviceError::Bf16OnCpu),
        };
        Ok(Self {
            gpu,
            dtype,
            text_on_cpu: false,
            note,
        })
    }

    /// The kind of device, as a recipe records it: `cpu` or `cuda`.
    pub fn kind(&self) -> &'static str {
        match self.gpu {
            None => "cpu",
            Some(_) => "cuda",
        }
    }

    /// Number of the GPU, if it is one.
    pub fn gpu(&self) -> Option<usize> {
        self.gpu
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Number format of the networks.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number format, as a recipe records it.
    pub fn dtype_name(&self) -> &'static str {
        self.dtype.as_str()
    }

    /// Opens the device.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn open(&self) -> Result<Compute, DeviceError> {
        let device = match self.gpu {
            None => Device::Cpu,
            Some(number) => open_gpu(number)?,
        };
        Ok(Compute {
            device,
            dtype: self.dtype,
            text_on_cpu: self.text_on_cpu,
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gpu {
            None => write!(f, "cpu, {}", self.dtype_name()),
            Some(number) => write!(f, "{}, {}", DeviceChoice::Cuda(number), self.dtype_name()),
        }
    }
}

#[cfg(feature = "cuda")]
fn open_gpu(number: usize) -> Result<Device, DeviceError> {
    cuda::open(number)
}

#[cfg(not(feature = "cuda"))]
fn open_gpu(number: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt {
        asked: DeviceChoice::Cuda(number),
    })
}

/// An open device and the number format of networks on it. Noise, latents and pictures between networks are f32.
#[derive(Debug, Clone)]
pub struct Compute {
    pub device: Device,
    pub dtype: DType,
    /// Whether prompts are read on the CPU.
    pub text_on_cpu: bool,
}

impl Compute {
    /// The CPU in f32.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            text_on_cpu: false,
        }
    }

    /// Number of the GPU, if it is one.
    pub fn gpu(&self) -> Option<usize> {
        match self.device.location() {
            DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
            _ => None,
        }
    }

    /// Device and format of the text encoder's weights. It computes in f32 whatever its weights are, which are published
    /// in bf16: they go to a GPU as they are.
    pub fn for_text(&self) -> Self {
        match self.text_on_cpu || self.device.is_cpu() {
            true => Self::cpu(),
            false => Self {
                dtype: DType::BF16,
                ..self.clone()
            },
        }
    }

    /// Waits until the device has done all that was asked of it.
    ///
    /// # Errors
    /// When something that was asked of it has failed.
    pub fn synchronize(&self) -> candle_core::Result<()> {
        self.device.synchronize()
    }

    /// Memory of the device; `None` for the CPU.
    pub fn memory(&self) -> Option<DeviceMemory> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.device {
            return cuda::memory(device);
        }
        None
    }
}

/// Memory of a GPU in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    pub total: u64,
    /// What nobody holds, neither this process nor another.
    pub free: u64,
    /// What tensors of this process take.
    pub used: u64,
    /// The most that they have taken.
    pub used_high: u64,
    /// The most that this process has taken from the driver for tensors.
    pub reserved_high: u64,
}

#[cfg(test)]
mod tests;
