//! `electrode devices`: where a run can compute, or what is missing for it.

use serde_json::{Value, json};

use super::output;
use crate::artifact::machine::Machine;
use crate::device::cpu::dispatch::{Level, level};
use crate::device::cuda::{Found, Missing, Probe, Unusable};
use crate::error::Result;
use crate::run::devices::{arch, look, reason, remedy};

/// List the GPUs and the CPU, or say exactly what is missing
#[derive(clap::Args, Debug)]
pub struct DevicesArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What looking for GPUs gave.
type Looked = std::result::Result<Probe, Missing>;

pub(super) fn run(args: DevicesArgs) -> Result<()> {
    let (gpus, cpu) = (look(), Machine::here(rayon::current_num_threads()));
    if args.json {
        output::print_json(&as_json(&gpus, &cpu))
    } else {
        output::print(&as_text(&gpus, &cpu))
    }
}

fn as_json(gpus: &Looked, cpu: &Machine) -> Value {
    let gpu = |gpu: &Found| {
        json!({
            "index": gpu.index,
            "name": gpu.name,
            "arch": arch(gpu),
            "memory_bytes": gpu.total,
            "free_bytes": gpu.free,
            "uuid": gpu.uuid,
        })
    };
    let missing = gpus.as_ref().err().map(|missing| {
        json!({
            "reason": reason(missing), "what": missing.to_string(), "remedy": remedy(missing)
        })
    });
    json!({
        "cuda": {
            "devices": found(gpus).iter().map(gpu).collect::<Vec<_>>(),
            "unusable": unusable(gpus).iter().map(|gpu| json!({
                "index": gpu.index, "what": gpu.why
            })).collect::<Vec<_>>(),
            "driver": gpus.as_ref().ok().map(|probe| version(probe.driver)),
            "kernels": gpus.as_ref().ok().map(|probe| probe.kernels),
            "missing": missing,
        },
        "cpu": {
            "name": cpu.cpu,
            "threads": cpu.threads,
            "instructions": instructions(level()),
            "memory_bytes": cpu.memory,
        },
    })
}

fn as_text(gpus: &Looked, cpu: &Machine) -> String {
    let memory = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for gpu in found(gpus) {
        rows.push(vec![
            format!("cuda:{}", gpu.index),
            gpu.name.clone(),
            arch(gpu),
            format!("{}, {} free", memory(gpu.total), memory(gpu.free)),
        ]);
    }
    rows.push(vec![
        "cpu".to_owned(),
        cpu.cpu.clone().unwrap_or_else(|| cpu.system.clone()),
        format!("{} threads, {}", cpu.threads, instructions(level())),
        cpu.memory.map(memory).unwrap_or_default(),
    ]);
    let table = output::table(&["device", "name", "kind", "memory"], &rows);
    match gpus {
        Ok(probe) => {
            let driver = version(probe.driver);
            let cannot: String =
                probe.unusable.iter().map(|gpu| format!("cannot be used: {gpu}\n")).collect();
            let kernels = probe.kernels;
            format!("{table}\n{cannot}NVIDIA driver for CUDA {driver}; kernels: {kernels}\n")
        }
        Err(missing) => format!("{table}\nno GPU: {missing}\n  remedy: {}\n", remedy(missing)),
    }
}

fn found(gpus: &Looked) -> &[Found] {
    gpus.as_ref().map_or(&[], |probe| &probe.devices)
}

fn unusable(gpus: &Looked) -> &[Unusable] {
    match gpus {
        Ok(probe) => &probe.unusable,
        Err(Missing::Unusable(all)) => all,
        Err(_) => &[],
    }
}

/// 13000 as "13.0".
fn version(driver: i32) -> String {
    format!("{}.{}", driver / 1000, driver % 1000 / 10)
}

fn instructions(level: Level) -> &'static str {
    match level {
        Level::Portable => "portable",
        Level::Avx2 => "avx2",
        Level::Avx512 => "avx512",
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: by hand.
    use super::*;

    fn machine() -> Machine {
        Machine { cpu: Some("A Processor".to_owned()), threads: 8, ..Machine::default() }
    }

    #[test]
    fn gpus_stand_before_the_cpu() {
        let gpu = Found {
            index: 1,
            name: "NVIDIA H200".to_owned(),
            arch: (9, 0),
            total: 3 << 29,
            free: 1 << 30,
            uuid: "GPU-1".to_owned(),
        };
        let busy = Unusable { index: 0, why: "it is busy".to_owned(), broken: true };
        let probe =
            Probe { devices: vec![gpu], unusable: vec![busy], driver: 12080, kernels: "embedded" };
        let text = as_text(&Ok(probe.clone()), &machine());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("cuda:1  NVIDIA H200  sm_90"), "{text}");
        assert!(lines[1].ends_with("1.5 GiB, 1.0 GiB free"), "{text}");
        assert!(lines[2].starts_with("cpu     A Processor  8 threads"), "{text}");
        assert!(text.contains("\ncannot be used: cuda:0: it is busy\n"), "{text}");
        assert!(text.ends_with("\nNVIDIA driver for CUDA 12.8; kernels: embedded\n"), "{text}");
        let json = as_json(&Ok(probe), &machine());
        assert_eq!(json["cuda"]["devices"][0]["arch"], "sm_90");
        assert_eq!(json["cuda"]["missing"], Value::Null);
        assert_eq!(json["cuda"]["unusable"][0], json!({"index": 0, "what": "it is busy"}));
    }

    #[test]
    fn what_is_missing_is_said_with_a_remedy() {
        let text = as_text(&Err(Missing::NoDevices), &machine());
        assert!(text.contains("\nno GPU: ") && text.contains("\n  remedy: "), "{text}");
        let json = as_json(&Err(Missing::NoDevices), &machine());
        assert_eq!(json["cuda"]["missing"]["reason"], "no_devices");
        assert_eq!(json["cuda"]["devices"], json!([]));
    }
}
