//! Which files are mapped into memory, for the message when one of them is shortened while it is in use.
//!
//! The system answers a look at bytes that are gone with a signal that ends the program. A handler for it may not take
//! locks or memory, so the list is of atomics and its names stay for ever; there are a few files to a run.

#![allow(unsafe_code)]

use std::{
    path::Path,
    ptr,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering},
};

/// Files that are known at a time; older ones are forgotten.
const KNOWN: usize = 64;

struct Map {
    start: AtomicUsize,
    end: AtomicUsize,
    /// A name that was leaked, or null.
    name: AtomicPtr<String>,
}

static MAPS: [Map; KNOWN] = [const {
    Map {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        name: AtomicPtr::new(ptr::null_mut()),
    }
}; KNOWN];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Notes that `bytes` are those of the file `path`.
pub(crate) fn note(bytes: &[u8], path: &Path) {
    let map = &MAPS[NEXT.fetch_add(1, Ordering::Relaxed) % KNOWN];
    let name = Box::new(crate::files::said::printable(&path.display().to_string()).into_owned());
    map.end.store(0, Ordering::SeqCst);
    map.name.store(Box::leak(name), Ordering::SeqCst);
    map.start.store(bytes.as_ptr().addr(), Ordering::SeqCst);
    map.end.store(bytes.as_ptr().addr() + bytes.len(), Ordering::SeqCst);
}

/// The file that is mapped at an address, the latest one. Takes no lock and no memory.
pub(crate) fn file_at(address: usize) -> Option<&'static str> {
    let newest = NEXT.load(Ordering::SeqCst);
    let mut maps = (1..=KNOWN).map(|back| &MAPS[newest.wrapping_sub(back) % KNOWN]);
    let holds = |map: &&Map| (map.start.load(Ordering::SeqCst)..map.end.load(Ordering::SeqCst)).contains(&address);
    let name = maps.find(holds)?.name.load(Ordering::SeqCst);
    // SAFETY: it is null or was leaked, and nobody changes it.
    unsafe { name.as_ref() }.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_the_latest_file() {
        let bytes = [0; 100];
        let at = |index: usize| bytes.as_ptr().addr() + index;
        note(&bytes[..50], Path::new("first"));
        note(&bytes[50..], Path::new("second"));
        assert_eq!((file_at(at(49)), file_at(at(50))), (Some("first"), Some("second")));
        note(&bytes[..50], Path::new("third"));
        assert_eq!(file_at(at(0)), Some("third"));
        assert_eq!(file_at(at(0) + 100), None);
    }
}
