//! Conversion between RGB and YUV with the right matrix and range; FFmpeg's default is BT.601 whatever the tags say.

#![allow(unsafe_code)]

use ffmpeg_next::{
    Error, color, ffi,
    format::Pixel,
    frame,
    software::scaling::{Context, Flags},
};

/// Rows of coefficients in swscale (`SWS_CS_*` of swscale.h).
const BT709: i32 = 1;
const BT601: i32 = 5;
const SMPTE240M: i32 = 7;
const BT2020: i32 = 9;

/// A converter between pixel formats at one size.
pub(super) struct Converter(Context);

// SAFETY: a SwsContext is plain memory without ties to the thread that made it; `&mut self` keeps its use exclusive.
unsafe impl Send for Converter {}

impl Converter {
    /// Full-range RGB24 to limited-range BT.709 yuv420p.
    ///
    /// # Errors
    /// When FFmpeg has no such conversion.
    pub fn rgb_to_yuv(width: u32, height: u32) -> Result<Self, Error> {
        Self::new(
            (Pixel::RGB24, BT709, true, width),
            (Pixel::YUV420P, BT709, false, width),
            height,
        )
    }

    /// Any decoded frame to full-range RGB of the format `to` and `width` columns, by the matrix and range that the frame
    /// is tagged with. Without a tag, small pictures are taken for BT.601 as television's were, unless `modern` says otherwise.
    ///
    /// # Errors
    /// When FFmpeg has no such conversion.
    pub fn frame_to_rgb(frame: &frame::Video, to: Pixel, width: u32, modern: bool) -> Result<Self, Error> {
        let matrix = match frame.color_space() {
            color::Space::BT709 => BT709,
            color::Space::BT2020NCL | color::Space::BT2020CL => BT2020,
            color::Space::SMPTE240M => SMPTE240M,
            color::Space::Unspecified | color::Space::Reserved if modern || frame.height() >= 720 => BT709,
            _ => BT601,
        };
        let jpeg = matches!(
            frame.format(),
            Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P
        );
        let full = jpeg || frame.color_range() == color::Range::JPEG;
        Self::new(
            (frame.format(), matrix, full, frame.width()),
            (to, matrix, true, width),
            frame.height(),
        )
    }

    fn new(from: (Pixel, i32, bool, u32), to: (Pixel, i32, bool, u32), height: u32) -> Result<Self, Error> {
        let flags = Flags::BICUBIC | Flags::ACCURATE_RND | Flags::FULL_CHR_H_INT | Flags::FULL_CHR_H_INP;
        let mut context = Context::get(from.0, from.3, height, to.0, to.3, height, flags)?;
        let unit = 1 << 16;
        // SAFETY: the context is valid; sws_getCoefficients returns static tables. Between two RGB formats the call
        // declines (-1), where there is no matrix to set.
        unsafe {
            ffi::sws_setColorspaceDetails(
                context.as_mut_ptr(),
                ffi::sws_getCoefficients(from.1),
                i32::from(from.2),
                ffi::sws_getCoefficients(to.1),
                i32::from(to.2),
                0,
                unit,
                unit,
            );
        }
        Ok(Self(context))
    }

    /// Converts `input` into `output`, which is allocated when empty.
    ///
    /// # Errors
    /// When FFmpeg cannot convert the frame.
    pub fn run(&mut self, input: &frame::Video, output: &mut frame::Video) -> Result<(), Error> {
        self.0.run(input, output)
    }

    /// Whether this converter takes frames like `frame`. Colour tags are taken not to change within a stream.
    pub fn takes(&self, frame: &frame::Video) -> bool {
        let input = self.0.input();
        (input.format, input.width, input.height) == (frame.format(), frame.width(), frame.height())
    }
}
