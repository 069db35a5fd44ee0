//! Rotary inverse frequencies (Su et al. 2021, "RoFormer", section 3.4.2), computed in the order
//! and precision of the float32 models, with the scalings that checkpoints ask for.

use super::unsupported;
use crate::error::Result;
use crate::model::settings::{Settings, narrow};
use crate::model::spec::PositionSpec;

/// What a configuration says about rotation, wherever it says it.
struct Rope {
    theta: f64,
    share: f64,
    scaling: Scaling,
}

enum Scaling {
    None,
    /// All frequencies divided by the factor.
    Linear(f64),
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        context: f64,
    },
}

/// Keys of the base and the rotated share where there is no `rope_parameters`, and their defaults.
pub(super) struct Legacy {
    pub(super) theta: &'static str,
    pub(super) share: &'static str,
    pub(super) default_share: f64,
}

/// `rope_theta`, and whole heads rotate.
pub(super) const WHOLE: Legacy =
    Legacy { theta: "rope_theta", share: "partial_rotary_factor", default_share: 1.0 };

/// The position scheme of a model with heads of `head_width`.
pub(super) fn positions(
    settings: &Settings,
    head_width: usize,
    legacy: &Legacy,
) -> Result<PositionSpec> {
    let rope = read(settings, legacy)?;
    let wide = || format!("heads of {head_width} columns cannot be rotated");
    let head_width =
        u16::try_from(head_width).map_err(|_| unsupported(settings, "head_dim", wide()))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let rotated = (f64::from(head_width) * rope.share) as u16;
    if rotated < 2 || !rotated.is_multiple_of(2) || rotated > head_width {
        let what = format!("rotates {rotated} of a head's {head_width} columns");
        return Err(settings.wrong(legacy.share, what, "correct the value: an even number"));
    }
    let theta = f64::from(narrow(rope.theta));
    let frequency = |column: u16| {
        // The exponent is a float32 quotient and the power a float32 number.
        let exponent = f32::from(column) / f32::from(rotated);
        rope.scaling.apply(1.0 / narrow(theta.powf(f64::from(exponent))))
    };
    Ok(PositionSpec::Rotary { inv_freq: (0..rotated).step_by(2).map(frequency).collect() })
}

fn read(settings: &Settings, legacy: &Legacy) -> Result<Rope> {
    let new = settings.section("rope_parameters")?;
    let old = settings.section("rope_scaling")?;
    let first = |key: &str, old_key: &str| -> Result<Option<f64>> {
        if let Some(section) = &new
            && let Some(value) = section.number(key)?
        {
            return Ok(Some(value));
        }
        settings.number(old_key)
    };
    let theta = first("rope_theta", legacy.theta)?.unwrap_or(10_000.0);
    let share = first("partial_rotary_factor", legacy.share)?.unwrap_or(legacy.default_share);
    let scaling = match new.as_ref().or(old.as_ref()) {
        None => Scaling::None,
        Some(section) => scaling(section)?,
    };
    Ok(Rope { theta, share, scaling })
}

fn scaling(section: &Settings) -> Result<Scaling> {
    let kind = match section.text("rope_type")? {
        Some(kind) => Some(kind),
        None => section.text("type")?,
    };
    let need = |key: &str| {
        let missing = || section.wrong(key, "is missing from the rotary scaling", "complete it");
        section.number(key)?.ok_or_else(missing)
    };
    match kind.unwrap_or("default") {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear(need("factor")?)),
        "llama3" => Ok(Scaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            context: need("original_max_position_embeddings")?,
        }),
        other => Err(unsupported(
            section,
            "rope_type",
            format!("'{other}' rotary scaling is not supported (default, linear and llama3 are)"),
        )),
    }
}

impl Scaling {
    /// One frequency, in float32 as the models compute it.
    fn apply(&self, frequency: f32) -> f32 {
        match *self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / narrow(factor),
            Self::Llama3 { factor, low, high, context } => {
                let wavelength = narrow(2.0 * std::f64::consts::PI) / frequency;
                let slowed = frequency / narrow(factor);
                if wavelength > narrow(context / low) {
                    slowed
                } else if wavelength < narrow(context / high) {
                    frequency
                } else {
                    let ramp = (narrow(context) / wavelength - narrow(low)) / narrow(high - low);
                    (1.0 - ramp) * frequency / narrow(factor) + ramp * frequency
                }
            }
        }
    }
}
