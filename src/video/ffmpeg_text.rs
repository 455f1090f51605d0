//! Every text that FFmpeg hands out, read in one place.
//!
//! Tags come from files and may hold any bytes. The wrapper takes them for UTF-8 without looking, which is undefined
//! behaviour for those that are not; so its texts (dictionaries, names, messages of errors) are not used anywhere.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use ffmpeg_next::{self as ffmpeg, codec, ffi, format};

/// Bytes for the text of an error; FFmpeg's own take at most 64.
const LONGEST_ERROR: usize = 256;

/// Copies a text, with replacement characters for bytes that are no UTF-8; none for a null pointer.
///
/// # Safety
/// `text` must be null or end with a zero byte, and stay as it is meanwhile.
unsafe fn lossy(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// A name from a table of FFmpeg; none if it is unknown to it.
///
/// # Safety
/// `name` must be null or a text that stays for ever.
unsafe fn fixed(name: *const c_char) -> Option<&'static str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// A text in the metadata of a file.
pub(super) fn tag(input: &format::context::Input, key: &CStr) -> Option<String> {
    // SAFETY: the context is valid; the entry and its value belong to its dictionary and are copied at once.
    unsafe {
        let entry = ffi::av_dict_get((*input.as_ptr()).metadata, key.as_ptr(), std::ptr::null(), 0);
        if entry.is_null() { None } else { lossy((*entry).value) }
    }
}

/// Names of the container, separated by commas: `mov,mp4,m4a,3gp,3g2,mj2`.
pub(super) fn container(input: &format::context::Input) -> String {
    // SAFETY: an opened context has a format, whose name is in a table.
    unsafe { container_name((*input.as_ptr()).iformat) }
}

/// The same of a format that is not opened.
///
/// # Safety
/// `format` must be null or come from FFmpeg's table of formats.
pub(super) unsafe fn container_name(format: *const ffi::AVInputFormat) -> String {
    // SAFETY: as the caller promises.
    let name = if format.is_null() {
        None
    } else {
        unsafe { lossy((*format).name) }
    };
    name.unwrap_or_default()
}

/// Name of a coding: `h264`.
pub(super) fn codec_name(id: codec::Id) -> String {
    // SAFETY: gives a text of a table for every number.
    unsafe { lossy(ffi::avcodec_get_name(id.into())) }.unwrap_or_default()
}

/// Name of a pixel format: `yuv420p`.
pub(super) fn pixel_format(format: format::Pixel) -> String {
    // SAFETY: gives a text of a table, or null.
    unsafe { lossy(ffi::av_get_pix_fmt_name(format.into())) }.unwrap_or_else(|| "unknown".to_owned())
}

/// Names of colour space, primaries, transfer and range of what a decoder gives; none where the file does not tell.
pub(super) fn colours(decoder: &codec::decoder::Video) -> [Option<&'static str>; 4] {
    let transfer = decoder.color_transfer_characteristic();
    // SAFETY: they give texts of tables, or null.
    let names = unsafe {
        [
            fixed(ffi::av_color_space_name(decoder.color_space().into())),
            fixed(ffi::av_color_primaries_name(decoder.color_primaries().into())),
            fixed(ffi::av_color_transfer_name(transfer.into())),
            fixed(ffi::av_color_range_name(decoder.color_range().into())),
        ]
    };
    names.map(|name| name.filter(|name| !matches!(*name, "unknown" | "reserved")))
}

/// What an error of FFmpeg means.
pub fn error_text(error: ffmpeg::Error) -> String {
    let code = c_int::from(error);
    let mut text: [c_char; LONGEST_ERROR] = [0; LONGEST_ERROR];
    // SAFETY: it writes at most as many bytes, the last one zero; so there is an end in any case.
    let said = unsafe {
        ffi::av_strerror(code, text.as_mut_ptr(), LONGEST_ERROR);
        lossy(text.as_ptr())
    };
    said.filter(|said| !said.is_empty())
        .unwrap_or_else(|| format!("error {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        // SAFETY: they end with a zero, and none is null.
        let read = |bytes: &'static CStr| unsafe { lossy(bytes.as_ptr()) }.unwrap();
        assert_eq!(read(c"a\xd9\"b"), "a\u{fffd}\"b");
        assert_eq!(read(c"\xff\xc0\x80"), "\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(read(c""), "");
        // SAFETY: null is allowed.
        assert_eq!(unsafe { lossy(std::ptr::null()) }, None);
    }

    #[test]
    fn errors_have_their_texts() {
        let said = error_text(ffmpeg::Error::InvalidData);
        assert_eq!(said, "Invalid data found when processing input");
        let missing = ffmpeg::Error::Other { errno: 2 };
        assert_eq!(error_text(missing), "No such file or directory");
    }
}
