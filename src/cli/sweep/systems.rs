//! The models of a sweep's points.

use crate::{
    Result,
    batch::PointSettings,
    config::{Layer, Layers},
    models::Locator,
    render::{Event, session::Session},
    rollout::CancelToken,
    sweep::{Assignments, Grid, Points, Resolved, SweepError},
};

/// The sessions that points need; each pair of model and preset is located once.
pub(super) struct Systems {
    locator: Locator,
    layers: Layers,
    /// Whether a video begins with pictures.
    encoder: bool,
    cancel: CancelToken,
    found: Vec<Found>,
}

struct Found {
    model: Option<String>,
    preset: Option<String>,
    session: Session,
}

impl Systems {
    /// `layers` say which model is meant where a point does not.
    pub fn new(locator: Locator, layers: Layers, encoder: bool, cancel: CancelToken) -> Self {
        Self {
            locator,
            layers,
            encoder,
            cancel,
            found: Vec::new(),
        }
    }

    /// The points of `grid`; each session gets the settings of its first point that is legal.
    ///
    /// # Errors
    /// When there is no such model or preset, or only the toy in place of the default model, and as [`Grid::points`].
    pub fn points(&mut self, grid: &Grid, observe: &mut dyn FnMut(Event<'_>)) -> Result<Points> {
        let points = grid.points(|values| self.resolve(values, &mut *observe))?;
        let mut given = vec![false; self.found.len()];
        for (point, settings) in &points.points {
            let number = settings.session;
            if point.skipped.is_none() && !std::mem::replace(&mut given[number], true) {
                let layers = self.with(&point.resolved)?;
                let session = &mut self.found[number].session;
                session.settings = layers.resolve(&session.located.preset_name, &session.located.preset);
            }
        }
        Ok(points)
    }

    fn with(&self, values: &Assignments) -> Result<Layers> {
        Ok(self.layers.with(Layer::of_values(values)?))
    }

    fn resolve(&mut self, values: &Assignments, observe: &mut dyn FnMut(Event<'_>)) -> Result<Resolved> {
        let layers = self.with(values)?;
        let number = self.number(&layers, observe)?;
        let located = &self.found[number].session.located;
        let settings = layers.resolve(&located.preset_name, &located.preset);
        Ok(Resolved {
            settings: PointSettings {
                session: number,
                cache: settings.cache(),
                sampler: settings.sampler(&located.preset.sampler),
            },
            model: located.model.clone(),
            preset: located.preset_name.clone(),
            rollout: located.preset.rollout,
        })
    }

    /// The number of the session of what `layers` name.
    fn number(&mut self, layers: &Layers, observe: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let (model, preset) = (layers.model(), layers.preset());
        let known = self.found.iter();
        let mut known = known.map(|found| (&found.model, &found.preset));
        if let Some(number) = known.position(|known| known == (&model, &preset)) {
            return Ok(number);
        }
        let session = Session::locate(&self.locator, layers, self.encoder, &self.cancel, observe)?;
        session.refuse_fallback()?;
        self.found.push(Found { model, preset, session });
        Ok(self.found.len() - 1)
    }

    /// The sessions of legal points, whose numbers `points` get.
    ///
    /// # Errors
    /// [`SweepError::Sizes`].
    pub fn used(self, points: &mut Points) -> Result<Vec<Session>, SweepError> {
        let legal = points.points.iter().filter(|(point, _)| point.skipped.is_none());
        let used: Vec<usize> = legal.map(|(_, settings)| settings.session).collect();
        let mut numbers = vec![0; self.found.len()];
        let mut sessions: Vec<Session> = Vec::new();
        for (number, found) in self.found.into_iter().enumerate() {
            if used.contains(&number) {
                numbers[number] = sessions.len();
                sessions.push(found.session);
            }
        }
        for (_, settings) in &mut points.points {
            settings.session = numbers[settings.session];
        }
        check_sizes(&sessions)?;
        Ok(sessions)
    }
}

/// Refuses videos of several sizes or rates: they cannot be compared.
fn check_sizes(sessions: &[Session]) -> Result<(), SweepError> {
    let shape = |session: &Session| (session.settings.size.value, session.settings.fps.value);
    let said = |session: &Session| {
        let (size, fps) = shape(session);
        let model = &session.located.model;
        format!(
            "{model} makes {}x{} at {fps} pictures per second",
            size.width, size.height
        )
    };
    let Some(first) = sessions.first() else { return Ok(()) };
    match sessions.iter().find(|other| shape(other) != shape(first)) {
        Some(other) => Err(SweepError::Sizes {
            one: said(first),
            other: said(other),
        }),
        None => Ok(()),
    }
}
