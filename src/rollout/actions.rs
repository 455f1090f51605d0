//! Rows of actions, one per picture, and the rows that a latent frame is made under.
//!
//! Integers alone: which keys there are, and what they are called, is the business of who fills the rows. Formulas:
//! docs/algorithms/world_actions.md.

use std::ops::Range;

pub use crate::transformer::action::{MOUSE_COLUMNS, WINDOW_ROWS};
use crate::vae::{TEMPORAL_FACTOR, pictures_of_latents};

/// Actions that cannot steer a video.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ActionRowsError {
    #[error(
        "picture {picture} has {found} key columns, the pictures before it {expected}: all rows have the same keys"
    )]
    Columns {
        picture: usize,
        found: usize,
        expected: usize,
    },
    #[error("picture {picture} has an action that is not finite")]
    NotFinite { picture: usize },
    #[error("{mouse} mouse rows beside {keyboard} keyboard rows: a picture has one of each")]
    Unequal { keyboard: usize, mouse: usize },
    #[error("one part of the actions moves the mouse and the other has none")]
    Mouse,
    #[error("no action for picture {picture}: there are rows for pictures {} to {}", held.start, held.end.saturating_sub(1))]
    Missing { picture: usize, held: Range<usize> },
    #[error("the model has {expected} keys, the actions {found}")]
    Keys { found: usize, expected: usize },
    #[error("the model {}, the actions {}", if *expected { "reads the mouse" } else { "has no mouse" }, if *expected { "have none" } else { "have one" })]
    NoMouse { expected: bool },
}

/// One row of actions for each of the pictures `first..end`, in the order of the model's columns.
///
/// A track that grows while a video is made may forget the pictures that no latent frame to come sees
/// ([`ActionRows::forget_before`]).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ActionRows {
    first: usize,
    keyboard: Vec<Vec<f32>>,
    /// Vertical and horizontal movement; `None` for models without a mouse.
    mouse: Option<Vec<[f32; MOUSE_COLUMNS]>>,
}

/// The rows that one latent frame sees, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionWindow {
    /// [`WINDOW_ROWS`] times the keys.
    pub keyboard: Vec<f32>,
    /// [`WINDOW_ROWS`] times [`MOUSE_COLUMNS`]; `None` for models without a mouse.
    pub mouse: Option<Vec<f32>>,
}

impl ActionRows {
    /// Rows from picture 0 on: `keyboard` one row of key columns per picture, `mouse` as many rows, if there is a mouse.
    ///
    /// # Errors
    /// When rows differ in their columns, are not finite, or are not equally many.
    pub fn new(keyboard: Vec<Vec<f32>>, mouse: Option<Vec<[f32; MOUSE_COLUMNS]>>) -> Result<Self, ActionRowsError> {
        Self::starting_at(0, keyboard, mouse)
    }

    /// As [`ActionRows::new`], for the pictures from `first` on.
    ///
    /// # Errors
    /// As [`ActionRows::new`].
    pub fn starting_at(
        first: usize,
        keyboard: Vec<Vec<f32>>,
        mouse: Option<Vec<[f32; MOUSE_COLUMNS]>>,
    ) -> Result<Self, ActionRowsError> {
        if let Some(mouse) = &mouse
            && mouse.len() != keyboard.len()
        {
            return Err(ActionRowsError::Unequal {
                keyboard: keyboard.len(),
                mouse: mouse.len(),
            });
        }
        let expected = keyboard.first().map_or(0, Vec::len);
        for (i, row) in keyboard.iter().enumerate() {
            let picture = first + i;
            let moves = mouse.as_ref().map_or(&[][..], |rows| &rows[i][..]);
            if row.len() != expected {
                return Err(ActionRowsError::Columns {
                    picture,
                    found: row.len(),
                    expected,
                });
            }
            if !row.iter().chain(moves).all(|value| value.is_finite()) {
                return Err(ActionRowsError::NotFinite { picture });
            }
        }
        Ok(Self { first, keyboard, mouse })
    }

    /// Pictures that have a row.
    pub fn pictures(&self) -> Range<usize> {
        self.first..self.first + self.keyboard.len()
    }

    /// Key columns of a row; 0 where there is no row.
    pub fn keys(&self) -> usize {
        self.keyboard.first().map_or(0, Vec::len)
    }

    /// Key columns of each picture, in the order of [`ActionRows::pictures`].
    pub fn keyboard(&self) -> &[Vec<f32>] {
        &self.keyboard
    }

    /// Mouse movement (vertical, horizontal) of each picture; `None` without a mouse.
    pub fn mouse(&self) -> Option<&[[f32; MOUSE_COLUMNS]]> {
        self.mouse.as_deref()
    }

    /// Checks that a model of `keys` key columns, with a mouse or without, can be steered by this.
    ///
    /// # Errors
    /// When it has other columns.
    pub fn check(&self, keys: usize, mouse: bool) -> Result<(), ActionRowsError> {
        if self.keyboard.is_empty() {
            return Ok(());
        }
        let found = self.keys();
        if found != keys {
            return Err(ActionRowsError::Keys { found, expected: keys });
        }
        if self.mouse.is_some() != mouse {
            return Err(ActionRowsError::NoMouse { expected: mouse });
        }
        Ok(())
    }

    /// Adds the rows of the pictures that follow.
    ///
    /// # Errors
    /// When `next` does not follow, or has other columns.
    pub fn extend(&mut self, next: Self) -> Result<(), ActionRowsError> {
        if self.keyboard.is_empty() {
            *self = next;
            return Ok(());
        }
        if next.keyboard.is_empty() {
            return Ok(());
        }
        let end = self.pictures().end;
        if next.first != end {
            return Err(ActionRowsError::Missing {
                picture: end,
                held: next.pictures(),
            });
        }
        if next.keys() != self.keys() {
            return Err(ActionRowsError::Columns {
                picture: next.first,
                found: next.keys(),
                expected: self.keys(),
            });
        }
        match (&mut self.mouse, next.mouse) {
            (Some(mouse), Some(more)) => mouse.extend(more),
            (None, None) => (),
            _ => return Err(ActionRowsError::Mouse),
        }
        self.keyboard.extend(next.keyboard);
        Ok(())
    }

    /// The rows of `pictures`.
    ///
    /// # Errors
    /// When one has no row.
    pub fn of(&self, pictures: Range<usize>) -> Result<Self, ActionRowsError> {
        let held = self.pictures();
        if let Some(picture) = pictures.clone().find(|picture| !held.contains(picture)) {
            return Err(ActionRowsError::Missing { picture, held });
        }
        let places = pictures.start.saturating_sub(self.first)..pictures.end.saturating_sub(self.first);
        Ok(Self {
            first: pictures.start,
            keyboard: self.keyboard[places.clone()].to_vec(),
            mouse: self.mouse.as_ref().map(|mouse| mouse[places].to_vec()),
        })
    }

    /// Forgets the rows that latent frame `next` and those after it do not see.
    pub fn forget_before(&mut self, next: usize) {
        let keep = (next * TEMPORAL_FACTOR).saturating_sub(WINDOW_ROWS);
        let gone = keep.saturating_sub(self.first).min(self.keyboard.len());
        self.keyboard.drain(..gone);
        if let Some(mouse) = &mut self.mouse {
            mouse.drain(..gone);
        }
        self.first += gone;
    }

    /// The rows that `latent_frame` sees: of the [`WINDOW_ROWS`] pictures before its last one. Before the first picture
    /// the first one's row stands (docs/algorithms/world_actions.md section 2).
    ///
    /// # Errors
    /// When one of these pictures has no row.
    pub fn window(&self, latent_frame: usize) -> Result<ActionWindow, ActionRowsError> {
        let end = latent_frame * TEMPORAL_FACTOR;
        let mut window = ActionWindow {
            keyboard: Vec::with_capacity(WINDOW_ROWS * self.keys()),
            mouse: self
                .mouse
                .is_some()
                .then(|| Vec::with_capacity(WINDOW_ROWS * MOUSE_COLUMNS)),
        };
        for back in (1..=WINDOW_ROWS).rev() {
            let picture = end.saturating_sub(back);
            let missing = || ActionRowsError::Missing {
                picture,
                held: self.pictures(),
            };
            let place = picture.checked_sub(self.first).ok_or_else(missing)?;
            window
                .keyboard
                .extend_from_slice(self.keyboard.get(place).ok_or_else(missing)?);
            if let (Some(all), Some(mouse)) = (&self.mouse, &mut window.mouse) {
                mouse.extend_from_slice(all.get(place).ok_or_else(missing)?);
            }
        }
        Ok(window)
    }
}

/// Pictures that belong to the latent frames `start..start + frames`: a chunk's decisions fill the rows of these
/// (docs/algorithms/world_actions.md section 3).
pub fn pictures_of_chunk(start: usize, frames: usize) -> Range<usize> {
    pictures_of_latents(start)..pictures_of_latents(start + frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Row `n` says `n`.
    fn numbered(pictures: Range<usize>) -> ActionRows {
        let keyboard = pictures.clone().map(|n| vec![n as f32]).collect();
        let mouse = pictures.clone().map(|n| [n as f32, -(n as f32)]).collect();
        ActionRows::starting_at(pictures.start, keyboard, Some(mouse)).unwrap()
    }

    #[test]
    fn a_window_ends_one_row_before_the_last_picture_of_its_frame() {
        let rows = numbered(0..21);
        let keyboard = |latent| rows.window(latent).unwrap().keyboard;
        assert_eq!(keyboard(0), [0.0; 12]);
        let mut second = vec![0.0; 9];
        second.extend([1.0, 2.0, 3.0]);
        assert_eq!(keyboard(1), second);
        assert_eq!(keyboard(3), (0..12).map(|n| n as f32).collect::<Vec<_>>());
        assert_eq!(keyboard(5), (8..20).map(|n| n as f32).collect::<Vec<_>>());
        assert_eq!(rows.window(5).unwrap().mouse.unwrap()[..4], [8.0, -8.0, 9.0, -9.0]);
        // Frame 6 sees pictures 12 to 23.
        assert_eq!(
            rows.window(6),
            Err(ActionRowsError::Missing {
                picture: 21,
                held: 0..21
            })
        );
    }

    #[test]
    fn a_chunk_fills_the_rows_of_its_pictures() {
        assert_eq!(pictures_of_chunk(0, 3), 0..9);
        assert_eq!(pictures_of_chunk(3, 3), 9..21);
        assert_eq!(pictures_of_chunk(0, 1), 0..1);
        assert_eq!(pictures_of_chunk(1, 1), 1..5);
    }

    #[test]
    fn what_is_no_track_is_refused() {
        let unequal = ActionRows::new(vec![vec![0.0; 4]; 3], Some(vec![[0.0; 2]; 2]));
        assert_eq!(unequal, Err(ActionRowsError::Unequal { keyboard: 3, mouse: 2 }));
        let ragged = ActionRows::new(vec![vec![0.0; 4], vec![0.0; 3]], None);
        assert!(matches!(ragged, Err(ActionRowsError::Columns { picture: 1, .. })));
        let odd = ActionRows::new(vec![vec![0.0]; 2], Some(vec![[0.0; 2], [f32::NAN, 0.0]]));
        assert_eq!(odd, Err(ActionRowsError::NotFinite { picture: 1 }));
        let mut rows = numbered(0..9);
        assert!(matches!(
            rows.extend(numbered(10..12)),
            Err(ActionRowsError::Missing { picture: 9, .. })
        ));
        assert_eq!(
            rows.extend(ActionRows::starting_at(9, vec![vec![1.0]], None).unwrap()),
            Err(ActionRowsError::Mouse)
        );
        assert_eq!(rows, numbered(0..9));
        assert!(rows.check(1, true).is_ok() && rows.check(4, true).is_err() && rows.check(1, false).is_err());
        assert!(rows.of(3..10).is_err());
    }

    proptest! {
        #[test]
        fn a_track_that_forgets_says_what_the_whole_one_says(
            sizes in proptest::collection::vec(1usize..5, 1..12),
        ) {
            let whole = numbered(0..pictures_of_latents(sizes.iter().sum()));
            let mut kept = ActionRows::default();
            let mut start = 0;
            for frames in sizes {
                kept.forget_before(start);
                kept.extend(whole.of(pictures_of_chunk(start, frames)).unwrap()).unwrap();
                for latent in start..start + frames {
                    prop_assert_eq!(kept.window(latent), whole.window(latent));
                }
                prop_assert!(kept.pictures().len() <= WINDOW_ROWS + TEMPORAL_FACTOR * (frames + 1));
                start += frames;
            }
        }
    }
}
