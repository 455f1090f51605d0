//! `w*48, w+left*24, none*48`: actions as text.

use super::{Action, ActionPlan, ActionProblem, Controls, Effect, Key, Rest};

/// Letters of a wrong text that a message repeats.
const SHOWN: usize = 40;

/// Reads a whole text; an error says at which action, with a space in front.
pub(super) fn plan(text: &str, controls: Controls) -> Result<ActionPlan, (String, ActionProblem)> {
    let mut plan = ActionPlan::default();
    let mut open: Option<&str> = None;
    let items = text.split([',', ';', '\n', '\r']).map(str::trim);
    for (index, item) in items.filter(|item| !item.is_empty()).enumerate() {
        let at = |problem| (format!(", number {} (`{}`)", index + 1, shown(item)), problem);
        if let Some(open) = open {
            let action = open.trim_end_matches(['*', ' ']).into();
            return Err(at(ActionProblem::OpenInside { action }));
        }
        let (written, count) = match item.rsplit_once('*') {
            Some((action, count)) => (action, count.trim()),
            None => (item, ""),
        };
        let action = action(written, controls).map_err(at)?;
        if count.is_empty() {
            open = Some(item);
            plan.rest = Some(action);
            continue;
        }
        let pictures = pictures(count).map_err(at)?;
        plan.trajectory.push(action, pictures).map_err(at)?;
    }
    if plan.trajectory.pictures == 0 && plan.rest.is_none() {
        return Err((String::new(), ActionProblem::Empty));
    }
    Ok(plan)
}

/// A number of pictures.
pub(super) fn pictures(text: &str) -> Result<usize, ActionProblem> {
    let number = text.parse::<usize>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| ActionProblem::Count {
        text: shown(text).into(),
    })
}

/// A key of an action, as it was written.
struct Pressed<'a> {
    word: &'a str,
    key: &'static Key,
}

/// Keys that are pressed together, joined by `+`.
pub(super) fn action(text: &str, controls: Controls) -> Result<Action, ActionProblem> {
    let mut action = controls.none();
    let mut before: Vec<Pressed<'_>> = Vec::new();
    for word in text.split('+').map(str::trim) {
        let (name, strength) = match word.split_once('=') {
            Some((name, strength)) => (name.trim(), Some(strength.trim())),
            None => (word, None),
        };
        let key = controls.known_key(shown(name))?;
        let pressed = Pressed { word: name, key };
        if let Some((other, reason)) = before
            .iter()
            .find_map(|other| Some((other, clash(other.key, key, controls)?)))
        {
            return Err(ActionProblem::Clash {
                first: other.word.into(),
                second: name.into(),
                reason,
            });
        }
        match key.effect {
            Effect::Press(columns) => {
                // Of a scheme with one key, what stands for none goes.
                action.keys = if controls.scheme().one_key {
                    columns
                } else {
                    action.keys | columns
                };
            }
            Effect::Turn(steps) => {
                let strength = match strength {
                    Some(text) => self::strength(name, text, controls)?,
                    None => controls.scheme().mouse.as_ref().map_or(0.0, |mouse| mouse.step),
                };
                for (value, steps) in action.mouse.iter_mut().zip(steps) {
                    *value += f32::from(steps) * strength;
                }
            }
            Effect::Rest(_) => {}
        }
        if let (Some(strength), Effect::Press(_) | Effect::Rest(_)) = (strength, key.effect) {
            return Err(ActionProblem::NoStrength {
                key: name.into(),
                strength: shown(strength).into(),
            });
        }
        before.push(pressed);
    }
    controls.check(action)?;
    Ok(action)
}

/// How far the mouse moves.
fn strength(key: &str, text: &str, controls: Controls) -> Result<f32, ActionProblem> {
    let mouse = controls.scheme().mouse.as_ref();
    let most = mouse.map_or(0.0, |mouse| mouse.most.into_iter().fold(0.0, f32::max));
    let number = text.parse::<f32>().ok();
    // Beyond the range is said by the check of the whole action, which knows the direction.
    let number = number.filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| ActionProblem::Strength {
        key: key.into(),
        strength: shown(text).into(),
        most,
    })
}

/// Why two keys cannot be pressed together.
fn clash(one: &Key, other: &Key, controls: Controls) -> Option<&'static str> {
    const STILL: &str = "one of them says that nothing is done";
    match (one.effect, other.effect) {
        (Effect::Rest(rest), other) | (other, Effect::Rest(rest)) => {
            let clashes = matches!(
                (rest, other),
                (Rest::Both, _)
                    | (Rest::Keyboard, Effect::Press(_))
                    | (Rest::Mouse, Effect::Turn(_))
                    | (_, Effect::Rest(Rest::Both))
            );
            clashes.then_some(STILL)
        }
        (Effect::Press(_), Effect::Press(_)) if controls.scheme().one_key => {
            Some("these controls take one key at a time")
        }
        (Effect::Turn(one), Effect::Turn(other)) => {
            let both = one.iter().zip(other).any(|(one, other)| *one != 0 && other != 0);
            both.then_some("they move the mouse along the same line")
        }
        _ => None,
    }
}

/// The beginning of a text.
pub(super) fn shown(text: &str) -> &str {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
