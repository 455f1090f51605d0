//! The slots of a layer as numbers in a state; see [`super::state_file`]. What is read may come from anybody.

use candle_core::{Device, Tensor};

use crate::cache::{Made, Slot};

/// Numbers that a slot is written as: frame, row, column, position, reuses, and what it was made of where a slot of the
/// layer is no token of its frame alone.
const SLOT: usize = 6;

/// The slots that a tensor of numbers stands for; `None` where it stands for none.
pub(super) fn slots(tensor: &Tensor) -> Option<Vec<Slot>> {
    let rows = tensor.to_vec2::<i64>().ok()?;
    let slot = |row: &Vec<i64>| {
        let (frame, row, column, position, reuses, made) = match *row.as_slice() {
            [frame, row, column, position, reuses] => (frame, row, column, position, reuses, 0),
            [frame, row, column, position, reuses, made] => (frame, row, column, position, reuses, made),
            _ => return None,
        };
        Some(Slot {
            frame: frame.try_into().ok()?,
            row: row.try_into().ok()?,
            column: column.try_into().ok()?,
            position,
            reuses: reuses.try_into().ok()?,
            made: match made {
                0 => Made::Frame,
                1 => Made::Copy,
                2 => Made::Average,
                memory => Made::Memory(u8::try_from(memory.checked_sub(3)?).ok()?),
            },
        })
    };
    rows.iter().map(slot).collect()
}

/// Numbers that each of these slots is written as.
pub(super) fn slot_width(slots: &[Slot]) -> usize {
    if slots.iter().all(|slot| slot.made == Made::Frame) {
        SLOT - 1
    } else {
        SLOT
    }
}

/// `[slots, 5]`, or `[slots, 6]` where a slot is no token of its frame alone: what older versions read stays as it is.
pub(super) fn written_slots(slots: &[Slot]) -> candle_core::Result<Tensor> {
    let width = slot_width(slots);
    let numbers = slots.iter().flat_map(|slot| {
        let made = match slot.made {
            Made::Frame => 0,
            Made::Copy => 1,
            Made::Average => 2,
            Made::Memory(number) => 3 + i64::from(number),
        };
        let numbers = [
            slot.frame as i64,
            slot.row.into(),
            slot.column.into(),
            slot.position,
            slot.reuses.into(),
            made,
        ];
        numbers.into_iter().take(width)
    });
    Tensor::from_vec(numbers.collect::<Vec<i64>>(), (slots.len(), width), &Device::Cpu)
}

pub(super) fn frame_numbers(tensor: &Tensor) -> Option<Vec<u64>> {
    let numbers = tensor.to_vec1::<i64>().ok()?;
    numbers.into_iter().map(|number| u64::try_from(number).ok()).collect()
}
