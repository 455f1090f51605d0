//! `deepforcing policies`: which cache policies there are, and what they cost with a model.

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    config::table,
    flags::ModelFlags,
    printer::{Printer, print_result},
    render::Screen,
};
use crate::{
    Error,
    config::{Environment, Layer, Layers},
    hub::human_bytes,
    memory::{PolicyCost, policy_costs},
    models::Locator,
    render::{Event, session::Session},
    rollout::{CancelToken, request::PictureSize},
};

/// Seconds of the video that costs are of: long enough that every cache is full.
const SECONDS: f64 = 120.0;

const EXAMPLES: &str = "\
Examples:
  deepforcing policies
  deepforcing policies --model toy --json
  deepforcing policies --preset causal-forcing --size 480x272

Each policy has the values of its release. Memory and cost are relative to fifo
with its window of 21 latent frames: bytes of the cache, and multiplications of
the transformer for a chunk. No policy needs training; some models were trained
with one.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Policies {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Size of the pictures [default: the preset's]
    #[arg(long, value_name = "WxH")]
    size: Option<PictureSize>,
    #[command(flatten)]
    model: ModelFlags,
}

impl Policies {
    pub(super) fn run(&self, printer: &Printer) -> Result<(), Failure> {
        let layer = Layer {
            size: self.size,
            ..self.model.layer()
        };
        let layers = Layers::load(layer, &Environment::of_process()).map_err(Error::from)?;
        let mut screen = Screen::new(printer);
        let mut observe = |event: Event<'_>| screen.see(event);
        let cancel = CancelToken::default();
        let session = Session::locate(&Locator::of_process(), &layers, false, &cancel, &mut observe)?;
        let recipe = session.sample(Some(SECONDS))?;
        let sizes = session.sizes(&session.found()?)?;
        let sizes = sizes.ok_or_else(|| Error::SizesUnknown {
            model: session.located.model.clone(),
        })?;
        let costs = policy_costs(&sizes, &recipe)?;
        let text = if self.json {
            let (model, video) = (&session.located.model, &recipe.video);
            let size = format!("{}x{}", video.width, video.height);
            let listed = json!({"model": model, "size": size, "policies": costs});
            format!(
                "{}\n",
                serde_json::to_string_pretty(&listed).map_err(anyhow::Error::from)?
            )
        } else {
            as_text(&costs)
        };
        print_result(text.as_bytes())
    }
}

fn as_text(costs: &[PolicyCost]) -> String {
    let head = ["policy", "memory", "cost", "cache", "published", "keeps"].map(String::from);
    let times = |number: Option<f64>| number.map_or_else(|| "-".into(), |number| format!("{number:.2}"));
    let rows = costs.iter().map(|cost| {
        [
            cost.name.clone(),
            times(cost.memory),
            times(cost.cost),
            cost.bytes.map_or_else(|| "-".into(), human_bytes),
            if cost.year > 0 {
                format!("{}, {}", cost.year, cost.source)
            } else {
                cost.source.into()
            },
            cost.keeps.into(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let mut text = table(&rows);
    for cost in costs {
        if let Some(models) = cost.trained_models {
            text += &format!("{}: models trained with it: {models}\n", cost.name);
        }
        if let Some(reason) = &cost.refused {
            text += &format!("{}: {reason}\n", cost.name);
        }
    }
    text
}
