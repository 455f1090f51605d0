//! The actions of a world that is steered while it is made: before each chunk its director is asked what is done in it
//! (docs/algorithms/world_actions.md section 3).

use super::{
    Ahead, Director,
    actions::{ActionRows, ActionRowsError, MOUSE_COLUMNS, pictures_of_chunk},
};
use crate::{Error, Result};

/// What is done in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRow {
    /// One number per key of the model.
    pub keyboard: Vec<f32>,
    /// Vertical and horizontal movement; `None` for models without a mouse.
    pub mouse: Option<[f32; MOUSE_COLUMNS]>,
}

impl ActionRow {
    /// The same action in all pictures of the chunk `ahead`.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn throughout(&self, ahead: Ahead) -> Result<ActionRows, ActionRowsError> {
        let pictures = pictures_of_chunk(ahead.start, ahead.frames);
        let count = pictures.len();
        let mouse = self.mouse.map(|mouse| vec![mouse; count]);
        ActionRows::starting_at(pictures.start, vec![self.keyboard.clone(); count], mouse)
    }
}

/// What was done so far, one row per picture up to the end of the chunk in work.
#[derive(Debug, Clone, Default)]
pub struct ActionBuffer {
    rows: ActionRows,
    forgets: bool,
}

impl ActionBuffer {
    /// Keeps the rows of all pictures.
    pub fn whole() -> Self {
        Self::default()
    }

    /// Keeps the rows that chunks to come see, and no others: for worlds without an end. A latent frame sees the same in
    /// both.
    pub fn recent() -> Self {
        Self {
            forgets: true,
            ..Self::default()
        }
    }

    /// Asks what is done in the chunk `ahead`, which follows the one before, and gives the rows up to its end. Rows of
    /// earlier chunks stay what they were.
    ///
    /// # Errors
    /// When the director fails or says nothing, or its rows are not those of the chunk's pictures.
    pub fn ask(&mut self, director: &mut dyn Director, ahead: Ahead) -> Result<&ActionRows> {
        let pictures = pictures_of_chunk(ahead.start, ahead.frames);
        let held = self.rows.pictures();
        if held.end != pictures.start {
            let picture = held.end;
            return Err(ActionRowsError::Missing { picture, held }.into());
        }
        let next = director.actions(ahead)?.ok_or(Error::NoActions)?;
        if next.pictures() != pictures {
            return Err(ActionRowsError::Missing {
                picture: pictures.start,
                held: next.pictures(),
            }
            .into());
        }
        if self.forgets {
            self.rows.forget_before(ahead.start);
        }
        self.rows.extend(next)?;
        Ok(&self.rows)
    }

    /// Goes on after `rows`, as [`ActionBuffer::recent`].
    pub fn after(rows: ActionRows) -> Self {
        Self { rows, forgets: true }
    }

    /// The rows up to the end of the last chunk.
    pub fn rows(&self) -> &ActionRows {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollout::Cue;

    /// Presses the key of the chunk's number.
    struct Numbers {
        silent: bool,
    }

    impl Director for Numbers {
        fn direct(&mut self, _: Ahead) -> Result<Option<Cue>> {
            Ok(None)
        }

        fn actions(&mut self, ahead: Ahead) -> Result<Option<ActionRows>> {
            let row = ActionRow {
                keyboard: vec![ahead.chunk as f32, 1.0],
                mouse: Some([0.1, -(ahead.chunk as f32)]),
            };
            Ok(if self.silent {
                None
            } else {
                Some(row.throughout(ahead)?)
            })
        }
    }

    fn ahead(chunk: usize, start: usize, frames: usize) -> Ahead {
        Ahead {
            chunk,
            start,
            frames,
            generated: start,
            given: false,
        }
    }

    #[test]
    fn an_action_holds_for_all_pictures_of_its_chunk() {
        let mut buffer = ActionBuffer::whole();
        for chunk in 0..3 {
            let rows = buffer.ask(&mut Numbers { silent: false }, ahead(chunk, 3 * chunk, 3));
            assert_eq!(rows.unwrap().pictures(), 0..9 + 12 * chunk);
        }
        let of = |picture: usize| buffer.rows().keyboard()[picture][0];
        assert_eq!([0, 8, 9, 20, 21, 32].map(of), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        // Frame 3 sees three rows of the chunk that it belongs to, frame 4 seven, frame 5 eleven.
        let new = |frame| {
            let seen = buffer.rows().window(frame).unwrap().keyboard;
            seen.iter().step_by(2).filter(|key| **key == 1.0).count()
        };
        assert_eq!([3, 4, 5].map(new), [3, 7, 11]);
    }

    #[test]
    fn a_chunk_without_an_action_is_refused() {
        let mut buffer = ActionBuffer::recent();
        let silent = buffer.ask(&mut Numbers { silent: true }, ahead(0, 0, 3));
        assert!(matches!(silent, Err(Error::NoActions)));
        buffer.ask(&mut Numbers { silent: false }, ahead(0, 0, 3)).unwrap();
        let hole = buffer.ask(&mut Numbers { silent: false }, ahead(2, 6, 3));
        assert!(hole.unwrap_err().to_string().contains("no action for picture 9"));
    }

    proptest! {
        #[test]
        fn a_short_buffer_says_what_the_whole_one_says(sizes in prop::collection::vec(1usize..5, 1..12)) {
            let (mut whole, mut recent, mut start) = (ActionBuffer::whole(), ActionBuffer::recent(), 0);
            for (chunk, frames) in sizes.into_iter().enumerate() {
                let ahead = ahead(chunk, start, frames);
                let all = whole.ask(&mut Numbers { silent: false }, ahead).unwrap();
                let kept = recent.ask(&mut Numbers { silent: false }, ahead).unwrap();
                for frame in start..start + frames {
                    prop_assert_eq!(all.window(frame), kept.window(frame));
                }
                prop_assert!(kept.pictures().len() <= 12 + 4 * frames + 4);
                start += frames;
            }
        }
    }
}
