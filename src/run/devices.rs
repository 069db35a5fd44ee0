//! Where a run computes: the devices asked for by name, among those that are there.

use std::collections::BTreeMap;

use crate::artifact::machine::Machine;
use crate::artifact::manifest::DeviceFacts;
use crate::config::Dtype;
use crate::device::cpu::CpuDevice;
use crate::device::cuda::{CudaDevice, Element, Found, Images, Missing, Probe, Unusable, probe};
use crate::engine::fleet::Slot;
use crate::error::{Error, Result};

/// CUDA_ERROR_STUB_LIBRARY and CUDA_ERROR_NO_DEVICE: what `cuInit` says where nothing is broken.
const STUB: u32 = 34;
const NONE_VISIBLE: u32 = 100;
/// What names there are.
const NAMES: &str = "use auto, cpu, cuda, or GPUs by number as in cuda:0 or cuda:0,2";

/// The devices of a run, all of one kind: results are the same bits however many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Devices {
    /// The processor.
    Cpu,
    /// GPUs, at least one.
    Cuda(Vec<Found>),
}

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Auto,
    Cpu,
    AllCuda,
    Cuda(Vec<u32>),
}

impl Devices {
    /// The devices that `--device` or `device.name` asks for. `auto`, and no name, is every GPU, or
    /// the CPU where there is none; a GPU that is asked for and not there is an error.
    pub fn choose(name: Option<&str>) -> Result<Self> {
        let name = name.unwrap_or("auto");
        let gpus = || look().map_err(|missing| refusal(name, &missing));
        Ok(match Asked::parse(name)? {
            Asked::Cpu => Self::Cpu,
            Asked::Auto => match look() {
                Ok(probe) => Self::Cuda(best_kind(usable(probe))),
                Err(missing) => {
                    tracing::info!("running on the CPU: {missing}");
                    Self::Cpu
                }
            },
            Asked::AllCuda => Self::Cuda(one_kind(usable(gpus()?))?),
            Asked::Cuda(numbers) => Self::Cuda(one_kind(numbered(&numbers, &gpus()?)?)?),
        })
    }

    /// Which kind of arithmetic: results of one kind agree in every bit, those of two within
    /// rounding. None for the CPU in f32.
    pub fn kind(&self, dtype: Dtype) -> Option<String> {
        match self {
            Self::Cpu => (dtype == Dtype::Bf16).then(|| match CpuDevice::multiplies_pairs() {
                true => "cpu pairs of bf16".to_owned(),
                false => "cpu bf16 as f32".to_owned(),
            }),
            Self::Cuda(found) => found.first().map(|gpu| format!("cuda {}", arch(gpu))),
        }
    }

    /// Tokens of a batch unless the run file says. Results are the same bits for any number; a GPU
    /// needs more of them to be busy while the host makes the next batch.
    pub fn batch_tokens(&self) -> usize {
        match self {
            Self::Cpu => 2048,
            Self::Cuda(_) => 16_384,
        }
    }

    /// Names and numbers, for the manifest.
    pub fn facts(&self) -> Vec<DeviceFacts> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        match self {
            Self::Cpu => {
                let cpu = Machine::here(0).cpu.unwrap_or_else(|| "cpu".to_owned());
                counts.insert(cpu, 1);
            }
            Self::Cuda(found) => {
                found.iter().for_each(|gpu| *counts.entry(gpu.name.clone()).or_default() += 1);
            }
        }
        counts.into_iter().map(|(name, count)| DeviceFacts { name, count }).collect()
    }
}

impl Asked {
    fn parse(name: &str) -> Result<Self> {
        let unknown = || Error::config("device", format!("no device '{name}'"), NAMES);
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::AllCuda),
            Some(("cuda", list)) => {
                let parse = |number: &str| match number.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => number.parse::<u32>().map_err(|_| unknown()),
                    false => Err(unknown()),
                };
                let numbers: Vec<u32> = list.split(',').map(parse).collect::<Result<_>>()?;
                let twice = (1..numbers.len()).find(|&i| numbers[..i].contains(&numbers[i]));
                match twice {
                    None => Ok(Self::Cuda(numbers)),
                    Some(i) => {
                        let what = format!("GPU {} is named twice in '{name}'", numbers[i]);
                        Err(Error::config("device", what, "name each GPU once"))
                    }
                }
            }
            _ => Err(unknown()),
        }
    }
}

/// `cuda:0 (NVIDIA H200)`.
pub fn device_name(gpu: &Found) -> String {
    format!("cuda:{} ({})", gpu.index, gpu.name)
}

/// `sm_90`.
pub fn arch(gpu: &Found) -> String {
    format!("sm_{}{}", gpu.arch.0, gpu.arch.1)
}

/// Looks for GPUs that this program has kernels for.
pub fn look() -> std::result::Result<Probe, Missing> {
    probe(&Images::from_env())
}

/// Opens a GPU, with tensors of this type.
pub fn open(gpu: &Found, dtype: Dtype) -> Result<CudaDevice> {
    CudaDevice::open(gpu.index, element(dtype), &Images::from_env())
}

/// A device that has another beside it with tensors of another type.
pub trait Typed: Sized {
    /// The same device with tensors of this type.
    #[must_use]
    fn typed(&self, dtype: Dtype) -> Self;
}

impl Typed for CpuDevice {
    fn typed(&self, dtype: Dtype) -> Self {
        processor(dtype)
    }
}

impl Typed for CudaDevice {
    fn typed(&self, dtype: Dtype) -> Self {
        self.with_element(element(dtype))
    }
}

fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F32 => Element::F32,
        Dtype::Bf16 => Element::Bf16,
    }
}

/// The processor, with products of this type.
pub fn processor(dtype: Dtype) -> CpuDevice {
    match dtype {
        Dtype::F32 => CpuDevice::F32,
        Dtype::Bf16 => CpuDevice::Bf16,
    }
}

/// The processor, to be opened with products of this type.
pub fn cpu<'a>(dtype: Dtype) -> Slot<'a, CpuDevice> {
    Slot::new("cpu", move || Ok(processor(dtype)))
}

/// GPUs, to be opened with tensors of this type.
pub fn gpus(found: &[Found], dtype: Dtype) -> Vec<Slot<'_, CudaDevice>> {
    let slot = |gpu| Slot::new(device_name(gpu), move || open(gpu, dtype));
    found.iter().map(slot).collect()
}

/// What can be done about it.
pub fn remedy(missing: &Missing) -> &'static str {
    match missing {
        Missing::NoLibrary => {
            "install the NVIDIA driver (or start the container with its GPUs), or use --device cpu"
        }
        Missing::OldDriver { .. } => "update the driver, or use --device cpu",
        Missing::Init { .. } => "look at nvidia-smi and the system's log, or use --device cpu",
        Missing::NoDevices => "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
        Missing::Unusable(all) if all.iter().any(|one| one.broken) => {
            "look at nvidia-smi (other processes, compute mode, errors), or use --device cpu"
        }
        Missing::Unusable(_) => "run on a newer GPU, or use --device cpu",
        Missing::NoKernels { .. } => {
            "use a program that was built with nvcc, or install NVRTC; or use --device cpu"
        }
    }
}

/// A name for it that scripts can rely on.
pub fn reason(missing: &Missing) -> &'static str {
    match missing {
        Missing::NoLibrary => "no_driver",
        Missing::OldDriver { .. } => "old_driver",
        Missing::Init { code: STUB, .. } => "stub_library",
        Missing::Init { code: NONE_VISIBLE, .. } | Missing::NoDevices => "no_devices",
        Missing::Init { .. } => "driver_failed",
        Missing::Unusable(all) if all.iter().any(|one| one.broken) => "unusable",
        Missing::Unusable(_) | Missing::NoKernels { .. } => "no_kernels",
    }
}

/// A GPU was asked for by name. A driver that does not start, or a GPU that does not answer, is the
/// machine's fault: another one may do.
fn refusal(name: &str, missing: &Missing) -> Error {
    match reason(missing) {
        "driver_failed" | "unusable" => {
            Error::Device { device: name.to_owned(), what: missing.to_string() }
        }
        _ => Error::config(format!("device {name}"), missing.to_string(), remedy(missing)),
    }
}

/// All that can be used; says which cannot.
fn usable(probe: Probe) -> Vec<Found> {
    for Unusable { index, why, .. } in &probe.unusable {
        tracing::warn!(device = format!("cuda:{index}"), "left out: {why}");
    }
    probe.devices
}

/// The GPUs of these numbers, in the order asked for.
fn numbered(numbers: &[u32], probe: &Probe) -> Result<Vec<Found>> {
    let find = |number: &u32| {
        let gpu = probe.devices.iter().find(|gpu| gpu.index == *number);
        gpu.cloned().ok_or_else(|| not_there(*number, probe))
    };
    numbers.iter().map(find).collect()
}

/// Why this number is no device to use.
fn not_there(number: u32, probe: &Probe) -> Error {
    match probe.unusable.iter().find(|gpu| gpu.index == number) {
        Some(Unusable { why, broken: true, .. }) => {
            Error::Device { device: format!("cuda:{number}"), what: why.clone() }
        }
        Some(gpu) => Error::config("device", gpu.to_string(), "use a newer GPU, or --device cpu"),
        None => {
            let names: Vec<String> = probe.devices.iter().map(device_name).collect();
            let what = format!("no GPU {number}; there are {}", names.join(", "));
            Error::config("device", what, "`electrode devices` lists them")
        }
    }
}

/// Refuses GPUs that would round differently: which of them did a block would then be seen.
fn one_kind(found: Vec<Found>) -> Result<Vec<Found>> {
    let first = found.first().map(|gpu| gpu.arch);
    let Some(other) = found.iter().find(|gpu| Some(gpu.arch) != first) else { return Ok(found) };
    let describe = |gpu: &Found| format!("{} is {}", device_name(gpu), arch(gpu));
    let what = format!("GPUs of two kinds: {}, {}", describe(&found[0]), describe(other));
    Err(Error::config("device", what, "name those of one kind, as in cuda:0,1"))
}

/// Of the newest kind, all there are.
fn best_kind(found: Vec<Found>) -> Vec<Found> {
    let best = found.iter().map(|gpu| gpu.arch).max();
    let (best, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|gpu| Some(gpu.arch) == best);
    for gpu in others {
        tracing::info!(device = device_name(&gpu), "left out: it is of an older kind");
    }
    best
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    fn gpu(index: u32, arch: (u32, u32)) -> Found {
        let name = format!("GPU {}", arch.0);
        Found { index, name, arch, total: 1 << 30, free: 1 << 29, uuid: index.to_string() }
    }

    #[test]
    fn names_are_read() {
        assert_eq!(Asked::parse("auto").expect("known"), Asked::Auto);
        assert_eq!(Asked::parse("cpu").expect("known"), Asked::Cpu);
        assert_eq!(Asked::parse("cuda").expect("known"), Asked::AllCuda);
        assert_eq!(Asked::parse("cuda:0").expect("known"), Asked::Cuda(vec![0]));
        assert_eq!(Asked::parse("cuda:2,0").expect("known"), Asked::Cuda(vec![2, 0]));
        for wrong in
            ["", "gpu", "cuda:", "cuda:a", "cuda:0,", "cuda:-1", "cuda:+1", "cpu:0", "CUDA"]
        {
            let error = Asked::parse(wrong).expect_err(wrong);
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let twice = Asked::parse("cuda:1,0,1").expect_err("twice").to_string();
        assert!(twice.contains("GPU 1 is named twice"), "{twice}");
    }

    #[test]
    fn gpus_of_two_kinds_do_not_share_a_run() {
        let found = vec![gpu(0, (8, 0)), gpu(1, (9, 0)), gpu(2, (9, 0))];
        let error = one_kind(found.clone()).expect_err("two kinds").to_string();
        assert!(error.contains("sm_80") && error.contains("sm_90"), "{error}");
        let broken = Unusable { index: 3, why: "it is busy".to_owned(), broken: true };
        let old = Unusable { index: 4, why: "it is old".to_owned(), broken: false };
        let probe = Probe {
            devices: found.clone(),
            unusable: vec![broken, old],
            driver: 13000,
            kernels: "embedded",
        };
        let chosen = numbered(&[2, 1], &probe).and_then(one_kind).expect("one kind");
        assert_eq!(chosen, [gpu(2, (9, 0)), gpu(1, (9, 0))]);
        assert_eq!(best_kind(found.clone()), [gpu(1, (9, 0)), gpu(2, (9, 0))]);
        let error = numbered(&[5], &probe).expect_err("no such").to_string();
        assert!(error.contains("no GPU 5") && error.contains("cuda:2 (GPU 9)"), "{error}");
        for (number, code, why) in [(3, 76, "cuda:3: it is busy"), (4, 2, "cuda:4: it is old")] {
            let error = numbered(&[number], &probe).expect_err("it cannot be used");
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn the_kind_of_arithmetic_is_named_and_devices_are_counted() {
        let gpus = Devices::Cuda(vec![gpu(0, (9, 0)), gpu(3, (9, 0))]);
        assert_eq!(gpus.kind(Dtype::F32).as_deref(), Some("cuda sm_90"));
        assert_eq!(gpus.facts(), [DeviceFacts { name: "GPU 9".to_owned(), count: 2 }]);
        assert_eq!(Devices::Cpu.kind(Dtype::F32), None, "its run ids stay what they were");
        let cpu = Devices::Cpu.kind(Dtype::Bf16).expect("named");
        assert!(cpu.starts_with("cpu ") && cpu.contains("bf16"), "{cpu}");
    }

    #[test]
    fn a_driver_that_does_not_start_is_the_machines_fault() {
        let init = |code| Missing::Init { code, what: "CUDA_ERROR".to_owned() };
        assert_eq!(refusal("cuda", &init(999)).exit_code(), 76);
        for missing in [
            Missing::NoLibrary,
            Missing::OldDriver { missing: vec!["cuLaunchKernelEx"] },
            Missing::NoDevices,
            Missing::NoKernels { device: "an old one".to_owned(), why: "too old".to_owned() },
            init(STUB),
            init(NONE_VISIBLE),
        ] {
            assert_eq!(refusal("cuda", &missing).exit_code(), 2);
        }
    }
}
