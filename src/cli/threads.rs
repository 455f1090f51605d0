//! How many threads the program computes with.

#![allow(unsafe_code)]

/// Lets every part of the program compute with as many threads.
pub(super) fn use_threads(threads: Option<usize>) {
    let Some(threads) = threads else { return };
    // SAFETY: called once, before the first thread that reads variables is made; candle reads its number of threads
    // from these two only.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        std::env::set_var("CANDLE_NUM_THREADS", threads.to_string());
    }
}
