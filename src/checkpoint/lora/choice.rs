//! A LoRA as people name it: `FILE`, or `FILE:STRENGTH`.

use std::{fmt, path::PathBuf, str::FromStr};

/// A LoRA file, and how strongly it is to work.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraChoice {
    pub path: PathBuf,
    /// What its change is multiplied by; 1 unless it was given.
    pub strength: f64,
}

impl FromStr for LoraChoice {
    type Err = String;

    /// Reads `FILE` or `FILE:STRENGTH`. What is behind the last colon and no number belongs to the file's name.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, strength) = match text.rsplit_once(':') {
            Some((path, number)) => match number.trim().parse::<f64>() {
                Ok(strength) if strength.is_finite() => (path, strength),
                Ok(_) => return Err(format!("the strength `{number}` is not a finite number")),
                Err(_) if number.is_empty() => return Err("a number is expected behind the colon".into()),
                Err(_) => (text, 1.0),
            },
            _ => (text, 1.0),
        };
        if path.trim().is_empty() {
            return Err("expected FILE or FILE:STRENGTH, for example style.safetensors:0.8".into());
        }
        Ok(Self {
            path: path.into(),
            strength,
        })
    }
}

impl fmt::Display for LoraChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.strength == 1.0 {
            Ok(())
        } else {
            write!(f, ":{}", self.strength)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strength_is_a_number_behind_the_last_colon() {
        for (text, path, strength) in [
            ("a.safetensors", "a.safetensors", 1.0),
            ("a.safetensors:0.7", "a.safetensors", 0.7),
            ("C:\\loras\\a.pt:-0.25", "C:\\loras\\a.pt", -0.25),
            ("C:\\loras\\a.pt", "C:\\loras\\a.pt", 1.0),
            ("a:b.pt:1", "a:b.pt", 1.0),
        ] {
            let choice: LoraChoice = text.parse().unwrap();
            assert_eq!((choice.path, choice.strength), (path.into(), strength), "{text}");
        }
        for wrong in ["", "  ", "a.pt:", "a.pt:inf", "a.pt:nan"] {
            assert!(wrong.parse::<LoraChoice>().is_err(), "{wrong}");
        }
        let shown = |text: &str| text.parse::<LoraChoice>().unwrap().to_string();
        assert_eq!(
            (shown("a.pt:1"), shown("a.pt:0.50")),
            ("a.pt".into(), "a.pt:0.5".into())
        );
    }
}
