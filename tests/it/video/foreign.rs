//! Videos and images as other programs make them: made by hand where no library does.

use std::{fs, path::Path};

use ffmpeg_next::{
    self as ffmpeg, Dictionary, Packet, Rational, codec, encoder, format,
    format::Pixel,
    frame,
    software::scaling::{Context, Flags},
};

/// A video to be made.
pub struct Foreign {
    pub encoder: &'static str,
    pub pixel: Pixel,
    pub size: (u32, u32),
    /// Time of each frame in hundredths of a second, and its colour.
    pub frames: Vec<(i64, [u8; 3])>,
    /// Duration of the last frame in hundredths of a second.
    pub last: i64,
    /// Width of a pixel for a height of 1.
    pub aspect: Rational,
}

impl Foreign {
    /// Lossless, at a constant 20 frames per second.
    pub fn new(size: (u32, u32), pixel: Pixel, colours: &[[u8; 3]]) -> Self {
        let frames = colours
            .iter()
            .enumerate()
            .map(|(at, &colour)| (at as i64 * 5, colour))
            .collect();
        Self {
            encoder: "ffv1",
            pixel,
            size,
            frames,
            last: 5,
            aspect: Rational(1, 1),
        }
    }

    /// Writes it in the container that the extension names.
    pub fn write(&self, path: &Path) {
        let codec = encoder::find_by_name(self.encoder).unwrap();
        let time_base = Rational(1, 100);
        let mut video = codec::context::Context::new_with_codec(codec)
            .encoder()
            .video()
            .unwrap();
        video.set_width(self.size.0);
        video.set_height(self.size.1);
        video.set_format(self.pixel);
        video.set_time_base(time_base);
        video.set_aspect_ratio(self.aspect);
        video.set_max_b_frames(0);
        video.set_flags(codec::Flags::GLOBAL_HEADER);
        let mut encoder = video.open_with(Dictionary::new()).unwrap();
        let mut file = format::output(path).unwrap();
        let mut stream = file.add_stream_with(&encoder).unwrap();
        stream.set_time_base(time_base);
        // SAFETY: the stream was just made.
        unsafe { (*stream.as_mut_ptr()).sample_aspect_ratio = self.aspect.into() };
        file.write_header().unwrap();
        let to = file.stream(0).unwrap().time_base();
        let mut durations: std::collections::HashMap<i64, i64> = self
            .frames
            .windows(2)
            .map(|pair| (pair[0].0, pair[1].0 - pair[0].0))
            .collect();
        durations.insert(self.frames.last().unwrap().0, self.last);
        let drain = |encoder: &mut encoder::video::Encoder, file: &mut format::context::Output| {
            let mut packet = Packet::empty();
            while encoder.receive_packet(&mut packet).is_ok() {
                packet.set_stream(0);
                packet.set_duration(durations[&packet.pts().unwrap()]);
                packet.rescale_ts(time_base, to);
                packet.write_interleaved(file).unwrap();
            }
        };
        for &(at, colour) in &self.frames {
            let mut picture = self.picture(colour);
            picture.set_pts(Some(at));
            encoder.send_frame(&picture).unwrap();
            drain(&mut encoder, &mut file);
        }
        encoder.send_eof().unwrap();
        drain(&mut encoder, &mut file);
        file.write_trailer().unwrap();
    }

    /// One colour, but white in the first quarter of rows and columns.
    fn picture(&self, colour: [u8; 3]) -> frame::Video {
        let (width, height) = self.size;
        let mut rgb = frame::Video::new(Pixel::RGB24, width, height);
        let stride = rgb.stride(0);
        for (y, row) in rgb.data_mut(0).chunks_mut(stride).take(height as usize).enumerate() {
            // Behind the row as well: of an odd width, the last pair of pixels reaches into the padding.
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let corner = x < width as usize / 4 && y < height as usize / 4;
                pixel.copy_from_slice(if corner { &[255; 3] } else { &colour });
            }
        }
        let flags = Flags::BICUBIC | Flags::ACCURATE_RND;
        let mut to = frame::Video::empty();
        Context::get(Pixel::RGB24, width, height, self.pixel, width, height, flags)
            .unwrap()
            .run(&rgb, &mut to)
            .unwrap();
        to
    }
}

/// Writes the display matrix a, b, c, d of the (one) track of an mp4, as cameras do that were held turned.
pub fn turn(path: &Path, matrix: [i32; 4]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(4).position(|kind| kind == b"tkhd").unwrap() + 4;
    // Version 0: flags, two times, track, reserved, duration, 8 reserved, layer, group, volume, reserved.
    assert_eq!(bytes[at], 0);
    let matrix_at = at + 4 + 20 + 8 + 8;
    let [a, b, c, d] = matrix.map(|number| number << 16);
    for (index, number) in [a, b, 0, c, d, 0, 0, 0, 1 << 30].into_iter().enumerate() {
        bytes[matrix_at + index * 4..][..4].copy_from_slice(&number.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// A second of silence.
pub fn wav() -> Vec<u8> {
    let (rate, samples) = (8000u32, vec![0u8; 8000]);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + samples.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(b"\x01\0\x08\0data");
    bytes.extend((samples.len() as u32).to_le_bytes());
    bytes.extend(samples);
    bytes
}

/// A baseline JPEG of one colour with four channels, stored inverted as Adobe's programs do: 255 is no ink.
pub fn cmyk_jpeg(width: u16, height: u16, stored: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0".to_vec();
    bytes.extend(b"\xff\xdb\0\x43\0");
    bytes.extend([1; 64]);
    bytes.extend(b"\xff\xc0\0\x14\x08");
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.extend(b"\x04\x01\x11\0\x02\x11\0\x03\x11\0\x04\x11\0");
    // Twelve codes of four bits for the sizes of differences; one bit for "nothing more in this block".
    bytes.extend(b"\xff\xc4\0\x1f\0\0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0");
    bytes.extend(0..12u8);
    bytes.extend(b"\xff\xc4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    bytes.extend(b"\xff\xda\0\x0e\x04\x01\0\x02\0\x03\0\x04\0\0\x3f\0");
    let mut bits = String::new();
    let mut before = [0i32; 4];
    for _ in 0..width.div_ceil(8) as usize * height.div_ceil(8) as usize {
        for (channel, before) in before.iter_mut().enumerate() {
            let level = 8 * (i32::from(stored[channel]) - 128);
            let difference = level - std::mem::replace(before, level);
            let size = (32 - difference.unsigned_abs().leading_zeros()) as usize;
            bits += &format!("{size:04b}");
            if size > 0 {
                let value = if difference < 0 {
                    difference + (1 << size) - 1
                } else {
                    difference
                };
                bits += &format!("{value:0size$b}");
            }
            bits += "0";
        }
    }
    bits += &"1".repeat((8 - bits.len() % 8) % 8);
    for byte in bits.as_bytes().chunks(8) {
        let byte = byte.iter().fold(0, |byte, &bit| byte << 1 | (bit - b'0'));
        bytes.push(byte);
        if byte == 0xff {
            bytes.push(0);
        }
    }
    bytes.extend(b"\xff\xd9");
    bytes
}

/// A JPEG with an EXIF orientation put in.
pub fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

/// The head of a PNG that claims a size, followed by nothing.
pub fn png_of_size(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", &head[..]), (b"IDAT", &[0x78, 0x9c][..]), (b"IEND", &[][..])] {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [&kind[..], data].concat();
        bytes.extend(&body);
        bytes.extend(crc(&body).to_be_bytes());
    }
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// FFmpeg says nothing on stderr.
pub fn quiet() {
    ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
}
