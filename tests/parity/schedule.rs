//! Kinds `scheduler` and `schedule_examples`: tables, step lists, noising, x0 conversion, sinusoids.

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use deepforcing::{
    rollout::sampler::{Schedule, add_noise, flow_to_x0, x0_to_flow},
    transformer::model::sinusoid,
};
use serde_json::Value;

use super::{Case, tolerance};

fn floats(case: &Case, name: &str) -> Result<Vec<f32>> {
    Ok(case.input(name)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn sigmas(case: &Case, schedule: &Schedule, name: &str) -> Result<Vec<f32>> {
    Ok(floats(case, name)?.iter().map(|t| schedule.sigma_of(*t)).collect())
}

fn bits_equal(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Largest distance in units of the last place of bf16.
fn bf16_ulps(got: &Tensor, want: &Tensor) -> Result<i64> {
    let bits = |t: &Tensor| -> Result<Vec<i64>> {
        let values: Vec<half::bf16> = t.flatten_all()?.to_vec1()?;
        let ordered = |v: &half::bf16| match v.to_bits() as i64 {
            negative if negative & 0x8000 != 0 => -(negative & 0x7fff),
            positive => positive,
        };
        Ok(values.iter().map(ordered).collect())
    };
    let (got, want) = (bits(got)?, bits(want)?);
    Ok(got.iter().zip(&want).map(|(a, b)| (a - b).abs()).max().unwrap_or(0))
}

pub fn run_scheduler(case: &Case) -> Result<()> {
    let tables: Value = serde_json::from_str(&std::fs::read_to_string(case.file("tables.json"))?)?;
    let shifts = tables["shifts"].as_object().context("tables.json has no shifts")?;
    for (shift, table) in shifts {
        let schedule = Schedule::new(shift.parse()?);
        check_lists(case, shift, &schedule, table)?;
        check_tensors(case, shift, &schedule)?;
    }
    let zero = &tables["t0_int64"];
    case.check("index of timestep 0", zero["index"] == Schedule::new(5.0).index_of(0.0));
    check_sinusoids(case)
}

fn check_lists(case: &Case, shift: &str, schedule: &Schedule, table: &Value) -> Result<()> {
    for (name, list) in table["warped"].as_object().context("no warped lists")? {
        let input: Vec<u32> = serde_json::from_value(list["input"].clone())?;
        let steps = schedule.denoising_steps(&input, true);
        let timesteps: Vec<f32> = serde_json::from_value(list["timesteps"].clone())?;
        let sigmas: Vec<f32> = serde_json::from_value(list["sigma"].clone())?;
        let indices: Vec<usize> = serde_json::from_value(list["argmin_index"].clone())?;
        let found: Vec<f32> = steps.iter().map(|s| s.timestep).collect();
        case.check(
            format!("shift {shift}: timesteps of {name}"),
            bits_equal(&found, &timesteps),
        );
        let found: Vec<f32> = steps.iter().map(|s| s.sigma).collect();
        case.check(format!("shift {shift}: sigmas of {name}"), bits_equal(&found, &sigmas));
        let found: Vec<usize> = timesteps.iter().map(|t| schedule.index_of(*t)).collect();
        case.check(format!("shift {shift}: indices of {name}"), found == indices);
    }
    for lookup in table["lookups"].as_array().context("no lookups")? {
        let timestep = lookup["timestep"].as_f64().context("a lookup has no timestep")? as f32;
        let index = schedule.index_of(timestep);
        case.check(
            format!("shift {shift}: index of {timestep}"),
            lookup["argmin_index_f64"] == index,
        );
        let sigma = lookup["sigma"].as_f64().context("a lookup has no sigma")? as f32;
        case.check(
            format!("shift {shift}: sigma of {timestep}"),
            schedule.sigma_of(timestep) == sigma,
        );
    }
    Ok(())
}

fn check_tensors(case: &Case, shift: &str, schedule: &Schedule) -> Result<()> {
    let name = |what: &str| format!("shift{shift}.{what}");
    let same = |what: &str, got: &[f32]| -> Result<()> {
        case.check(name(what), bits_equal(got, &floats(case, &name(what))?));
        Ok(())
    };
    same("sigmas", schedule.sigmas())?;
    same("timesteps", schedule.timesteps())?;
    // Weights of the training loss; inference has no use for them.
    case.input(&name("train_weights"))?;
    let sigmas = sigmas(case, schedule, &name("t"))?;
    let (x0, noise) = (case.input(&name("x0"))?, case.input(&name("noise"))?);
    let flow = case.input(&name("flow"))?;
    let noisy = add_noise(&x0, &noise, &sigmas)?;
    case.close(&name("add_noise_f32"), &noisy, 1e-6);
    let estimate = flow_to_x0(&noisy, &flow, &sigmas)?;
    case.close(&name("flow_to_x0_f32"), &estimate, 1e-6);
    case.close(&name("x0_to_flow_f32"), &x0_to_flow(&noisy, &estimate, &sigmas)?, 1e-6);
    let half = |t: &Tensor| t.to_dtype(DType::BF16);
    let rounded = add_noise(&half(&x0)?, &half(&noise)?, &sigmas)?;
    let check = |what: &str, got: &Tensor| -> Result<()> {
        let ulps = bf16_ulps(got, &case.input(&name(what))?)?;
        case.check(format!("{}: {ulps} ulps of bf16", name(what)), ulps <= 1);
        Ok(())
    };
    check("add_noise_bf16in", &rounded)?;
    // From the stored noisy tensor: one unit in its last place is many in a difference that nearly cancels.
    let stored = case.input(&name("add_noise_bf16in"))?;
    check("flow_to_x0_bf16in", &flow_to_x0(&stored, &half(&flow)?, &sigmas)?)
}

fn check_sinusoids(case: &Case) -> Result<()> {
    let positions: Vec<f64> = case.input("sin.positions")?.to_dtype(DType::F64)?.to_vec1()?;
    for name in case.names() {
        let Some((dim, kind)) = name.strip_prefix("sin.dim").and_then(|rest| rest.split_once('_')) else {
            continue;
        };
        let want = case.input(&name)?;
        let got: Vec<f64> = positions
            .iter()
            .flat_map(|p| sinusoid(*p, dim.parse().unwrap_or(0)))
            .collect();
        let got = Tensor::from_vec(got, want.shape(), want.device())?;
        match kind {
            "bf16" => {
                let ulps = bf16_ulps(&got.to_dtype(DType::BF16)?, &want)?;
                case.check(format!("{name}: {ulps} ulps of bf16"), ulps <= 1);
            }
            _ => {
                let distance = (got - want.to_dtype(DType::F64)?)?
                    .abs()?
                    .max_all()?
                    .to_scalar::<f64>()?;
                let allowed = if kind == "f64" { 1e-9 } else { 1e-6 };
                case.check(format!("{name}: off by {distance:.1e}"), distance <= allowed);
            }
        }
    }
    Ok(())
}

pub fn run_examples(case: &Case) -> Result<()> {
    let lists = case.meta["warped_step_lists"].as_array().context("no step lists")?;
    for list in lists {
        let shift = list["shift"].as_f64().context("a list has no shift")? as f32;
        let raw: Vec<u32> = serde_json::from_value(list["raw"].clone())?;
        let steps = Schedule::new(shift).denoising_steps(&raw, true);
        let timesteps: Vec<f32> = serde_json::from_value(list["warped"].clone())?;
        let sigmas: Vec<f32> = serde_json::from_value(list["sigmas"].clone())?;
        let found: Vec<f32> = steps.iter().map(|s| s.timestep).collect();
        case.check(
            format!("timesteps of {raw:?} at {shift}"),
            bits_equal(&found, &timesteps),
        );
        let found: Vec<f32> = steps.iter().map(|s| s.sigma).collect();
        case.check(format!("sigmas of {raw:?} at {shift}"), bits_equal(&found, &sigmas));
    }
    for name in case.names() {
        let Some((shift, what)) = name
            .strip_prefix("expected.shift")
            .and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        let schedule = Schedule::new(shift.parse()?);
        let got = if what == "sigmas" {
            schedule.sigmas()
        } else {
            schedule.timesteps()
        };
        case.check(&name, bits_equal(got, &floats(case, &name)?));
    }
    let (schedule, tolerance) = (Schedule::new(5.0), tolerance(case, 1e-6));
    let sigmas = sigmas(case, &schedule, "add_noise.t")?;
    let noisy = add_noise(&case.input("add_noise.x0")?, &case.input("add_noise.noise")?, &sigmas)?;
    case.close("expected.add_noise", &noisy, tolerance);
    // The case says: x_t of this conversion is the tensor called x0.
    let x0 = flow_to_x0(&case.input("add_noise.x0")?, &case.input("flow")?, &sigmas)?;
    case.close("expected.x0_from_flow", &x0, tolerance);
    Ok(())
}
