//! Uncompressed forms: y4m for video tools, and bare RGB.

use std::io::{self, Write};

use rayon::prelude::*;

use super::{Form, Metadata, VideoSettings, backend::Backend};

/// Writes frames as they are, or as YUV 4:2:0.
pub(super) struct RawStream {
    to: Box<dyn Write + Send>,
    width: usize,
    /// None for bare RGB.
    planes: Option<Planes>,
}

impl RawStream {
    /// Writes the header of y4m at once.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn create(mut to: Box<dyn Write + Send>, form: Form, settings: &VideoSettings) -> io::Result<Self> {
        let (width, height) = (settings.width, settings.height);
        let planes = match form {
            Form::Y4m => {
                // Chroma lies in the middle of its four pixels, which y4m calls 420jpeg; the range is video's.
                let header = format!("YUV4MPEG2 W{width} H{height} F{}:1 Ip A1:1 C420jpeg", settings.fps);
                to.write_all(format!("{header} XYSCSS=420JPEG XCOLORRANGE=LIMITED\n").as_bytes())?;
                Some(Planes::new(width as usize, height as usize))
            }
            _ => None,
        };
        Ok(Self {
            to,
            width: width as usize,
            planes,
        })
    }
}

impl Backend for RawStream {
    fn push(&mut self, rgb: &[u8], _at: u64, _metadata: &Metadata) -> io::Result<()> {
        match &mut self.planes {
            None => self.to.write_all(rgb),
            Some(planes) => {
                planes.fill(rgb, self.width);
                self.to.write_all(&planes.bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn close(&mut self, _metadata: &Metadata) -> io::Result<()> {
        self.to.flush()
    }
}

const FRAME: &[u8] = b"FRAME\n";

/// One y4m frame: its marker, then luma and the two chroma planes of half size.
struct Planes {
    bytes: Vec<u8>,
    pixels: usize,
}

impl Planes {
    fn new(width: usize, height: usize) -> Self {
        let pixels = width * height;
        let mut bytes = vec![0; FRAME.len() + pixels + pixels / 2];
        bytes[..FRAME.len()].copy_from_slice(FRAME);
        Self { bytes, pixels }
    }

    /// BT.709, limited range, two rows at a time.
    fn fill(&mut self, rgb: &[u8], width: usize) {
        let (luma, chroma) = self.bytes[FRAME.len()..].split_at_mut(self.pixels);
        let (blue, red) = chroma.split_at_mut(self.pixels / 4);
        rgb.par_chunks_exact(width * 6)
            .zip(luma.par_chunks_exact_mut(width * 2))
            .zip(blue.par_chunks_exact_mut(width / 2))
            .zip(red.par_chunks_exact_mut(width / 2))
            .for_each(|(((rgb, luma), blue), red)| {
                for (pixel, y) in rgb.chunks_exact(3).zip(luma) {
                    let [r, g, b] = [0, 1, 2].map(|at| i32::from(pixel[at]));
                    *y = (16 + ((11966 * r + 40254 * g + 4064 * b + 32768) >> 16)) as u8;
                }
                let (upper, lower) = rgb.split_at(width * 3);
                let squares = upper.chunks_exact(6).zip(lower.chunks_exact(6));
                for ((upper, lower), (u, v)) in squares.zip(blue.iter_mut().zip(red)) {
                    // Sums of four pixels, hence 18 bits instead of 16.
                    let [r, g, b] = [0, 1, 2].map(|at| {
                        let sum = [upper[at], upper[at + 3], lower[at], lower[at + 3]];
                        sum.into_iter().map(i32::from).sum::<i32>()
                    });
                    *u = (128 + ((-6596 * r - 22189 * g + 28784 * b + (1 << 17)) >> 18)) as u8;
                    *v = (128 + ((28784 * r - 26145 * g - 2639 * b + (1 << 17)) >> 18)) as u8;
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_their_bt709_values() {
        for (rgb, yuv) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            let mut planes = Planes::new(4, 2);
            planes.fill(&rgb.repeat(8), 4);
            let frame = &planes.bytes[FRAME.len()..];
            assert_eq!([frame[0], frame[8], frame[10]], yuv, "{rgb:?}");
            assert!(frame[..8].iter().all(|&y| y == yuv[0]));
            assert!(frame[8..10].iter().all(|&u| u == yuv[1]) && frame[10..].iter().all(|&v| v == yuv[2]));
        }
    }
}
