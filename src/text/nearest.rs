//! The known word that a mistyped one was probably meant to be.

use strsim::damerau_levenshtein;

/// The word of `known` that `word` was probably meant to be; `None` when none is near.
///
/// Case does not count, nor whether words are joined by `-` or `_`. Near is: a third of the letters wrong at most (one
/// letter in short words), or one word begins with the other. Of equally near ones the first is taken.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normal(word);
    let distances = known.into_iter().filter_map(|candidate| {
        let distance = distance(&word, &normal(candidate))?;
        Some((distance, candidate))
    });
    distances
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown `word`: "; did you mean `seconds`?", or else the known ones.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => {
            let known: Vec<_> = known.into_iter().map(|word| format!("`{word}`")).collect();
            format!("; known are {}", known.join(", "))
        }
    }
}

/// Longer words are not compared: they are no slip of the keyboard, and comparing takes the product of the lengths.
const LONGEST: usize = 100;
/// Letters that a common beginning must have.
const BEGINNING: usize = 3;

fn normal(word: &str) -> String {
    let lower = word.trim().to_lowercase();
    lower.chars().map(|c| if c == '_' { '-' } else { c }).collect()
}

/// Wrong letters; none when the words are too different to be meant for each other.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    let (a, b) = (word.chars().count(), candidate.chars().count());
    if a == 0 || b == 0 || a > LONGEST || b > LONGEST {
        return None;
    }
    let wrong = damerau_levenshtein(word, candidate);
    let allowed = (a.max(b) / 3).max(1);
    let begins = a.min(b) >= BEGINNING && (candidate.starts_with(word) || word.starts_with(candidate));
    // Two words of one letter have nothing in common when that letter is wrong.
    let near = wrong <= allowed && wrong < a.max(b);
    (near || begins).then_some(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 6] = ["seconds", "seed", "prompts", "prompt", "switch", "encoder-preset"];

    #[test]
    fn slips_are_recognised() {
        for (typed, meant) in [
            ("secnods", "seconds"),
            ("Seconds", "seconds"),
            ("sede", "seed"),
            ("promts", "prompts"),
            ("PROMPT", "prompt"),
            ("switches", "switch"),
            ("encoder_preset", "encoder-preset"),
            ("sec", "seconds"),
        ] {
            assert_eq!(nearest(typed, KEYS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn other_words_are_not() {
        for typed in ["", "x", "width", "zzzzzzz", "negative_prompt"] {
            assert_eq!(nearest(typed, KEYS), None, "{typed}");
        }
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn the_hint_lists_the_known_ones_when_none_is_near() {
        assert_eq!(hint("sed", KEYS), "; did you mean `seed`?");
        assert_eq!(hint("width", ["seed", "id"]), "; known are `seed`, `id`");
    }

    proptest! {
        #[test]
        fn a_known_word_is_nearest_to_itself(index in 0..KEYS.len()) {
            prop_assert_eq!(nearest(KEYS[index], KEYS), Some(KEYS[index]));
        }

        #[test]
        fn any_text_is_taken(word in ".{0,300}") {
            if let Some(near) = nearest(&word, KEYS) {
                prop_assert!(KEYS.contains(&near));
            }
        }
    }
}
