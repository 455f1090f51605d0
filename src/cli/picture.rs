//! Pictures as the bytes that make a terminal show them.

use std::io;

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder, imageops};

/// Ways to show a picture in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// kitty, Ghostty, Konsole, WezTerm.
    Kitty,
    /// iTerm2, WezTerm, mintty, Konsole.
    Iterm,
    /// foot, xterm, mlterm, Windows Terminal, tmux.
    Sixel,
    /// Coloured half blocks: any terminal with colours.
    Blocks { truecolor: bool },
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kitty => "kitty",
            Self::Iterm => "iTerm2",
            Self::Sixel => "sixel",
            Self::Blocks { .. } => "blocks",
        }
    }
}

/// Place of a picture, in characters, and the pixels of one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub columns: u16,
    pub rows: u16,
    pub cell: (u16, u16),
}

impl Place {
    /// The largest place for a picture of `width` × `height` pixels in `columns` × `rows` characters.
    pub(super) fn fit(width: u32, height: u32, columns: u16, rows: u16, cell: (u16, u16)) -> Self {
        let (cell_width, cell_height) = (f64::from(cell.0.max(1)), f64::from(cell.1.max(1)));
        let (width, height) = (f64::from(width.max(1)), f64::from(height.max(1)));
        let scale = (f64::from(columns) * cell_width / width).min(f64::from(rows) * cell_height / height);
        let cells = |pixels: f64, cell: f64, most: u16| ((pixels * scale / cell).round() as u16).clamp(1, most.max(1));
        Self {
            columns: cells(width, cell_width, columns),
            rows: cells(height, cell_height, rows),
            cell,
        }
    }

    fn pixels(&self) -> (u32, u32) {
        let side = |cells: u16, cell: u16| u32::from(cells) * u32::from(cell.max(1));
        (side(self.columns, self.cell.0), side(self.rows, self.cell.1))
    }
}

/// Bytes that show `picture` at the cursor, filling `place`. Where the cursor is afterwards depends on the terminal.
///
/// # Errors
/// When the picture cannot be encoded.
pub(super) fn encode(picture: &RgbImage, place: Place, protocol: Protocol) -> io::Result<Vec<u8>> {
    match protocol {
        Protocol::Kitty => Ok(kitty(picture, place)),
        Protocol::Iterm => iterm(picture, place),
        Protocol::Sixel => sixel(picture, place),
        Protocol::Blocks { truecolor } => Ok(blocks(picture, place, truecolor)),
    }
}

/// The picture in the pixels of its place, or as it is when that is smaller: less to send.
fn reduced(picture: &RgbImage, place: Place) -> RgbImage {
    let (width, height) = place.pixels();
    match picture.width() <= width && picture.height() <= height {
        true => picture.clone(),
        false => imageops::thumbnail(picture, width, height),
    }
}

/// Bytes of one part of a picture, as the protocol demands.
const KITTY_PART: usize = 4096;

/// The number under which the terminal keeps the picture: the next one with it takes its place.
fn kitty_id() -> u32 {
    // Another run in another window must not replace it, and 0 is no number.
    std::process::id() & 0x00ff_ffff | 0x0100_0000
}

/// <https://sw.kovidgoyal.net/kitty/graphics-protocol/>: transmit and display (`a=T`), no answers (`q=2`), cursor stays
/// (`C=1`).
fn kitty(picture: &RgbImage, place: Place) -> Vec<u8> {
    let small = reduced(picture, place);
    let data = STANDARD.encode(small.as_raw());
    let parts: Vec<_> = data.as_bytes().chunks(KITTY_PART).collect();
    let mut out = Vec::with_capacity(data.len() + 256);
    for (at, part) in parts.iter().enumerate() {
        let more = u8::from(at + 1 < parts.len());
        let control = match at {
            0 => format!(
                "a=T,f=24,i={},q=2,C=1,s={},v={},c={},r={},m={more}",
                kitty_id(),
                small.width(),
                small.height(),
                place.columns,
                place.rows
            ),
            _ => format!("q=2,m={more}"),
        };
        out.extend_from_slice(format!("\x1b_G{control};").as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\x1b\\");
    }
    out
}

/// <https://iterm2.com/documentation-images.html>
fn iterm(picture: &RgbImage, place: Place) -> io::Result<Vec<u8>> {
    let small = reduced(picture, place);
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(small.as_raw(), small.width(), small.height(), ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    let control = format!(
        "\x1b]1337;File=inline=1;size={};width={};height={};preserveAspectRatio=0;doNotMoveCursor=1:",
        png.len(),
        place.columns,
        place.rows
    );
    Ok([control.as_bytes(), STANDARD.encode(&png).as_bytes(), b"\x07"].concat())
}

/// Rows of pixels in one sixel.
const SIXEL: u32 = 6;

fn sixel(picture: &RgbImage, place: Place) -> io::Result<Vec<u8>> {
    let (width, height) = place.pixels();
    // A partly filled last sixel would reach below the place.
    let height = (height / SIXEL * SIXEL).max(SIXEL);
    let small = imageops::resize(picture, width, height, imageops::FilterType::Triangle);
    let rgba: Vec<u8> = small.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let text = icy_sixel::sixel_encode(&rgba, width as usize, height as usize, &icy_sixel::EncodeOptions::default());
    text.map(String::into_bytes).map_err(io::Error::other)
}

/// Two pixels per character, one above the other.
fn blocks(picture: &RgbImage, place: Place, truecolor: bool) -> Vec<u8> {
    let (columns, rows) = (u32::from(place.columns), u32::from(place.rows));
    let small = imageops::resize(picture, columns, rows * 2, imageops::FilterType::Triangle);
    let colour = |x, y| {
        let [r, g, b] = small.get_pixel(x, y).0;
        match truecolor {
            true => format!("2;{r};{g};{b}"),
            // The colour cube of 256-colour terminals.
            false => {
                let level = |value: u8| (u16::from(value) * 5 + 127) / 255;
                format!("5;{}", 16 + 36 * level(r) + 6 * level(g) + level(b))
            }
        }
    };
    let mut out = String::new();
    for row in 0..rows {
        for column in 0..columns {
            let (above, below) = (colour(column, 2 * row), colour(column, 2 * row + 1));
            out.push_str(&format!("\x1b[38;{above};48;{below}m▀"));
        }
        out.push_str("\x1b[0m");
        if row + 1 < rows {
            out.push_str("\r\n");
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left half red, right half blue.
    fn picture() -> RgbImage {
        RgbImage::from_fn(64, 32, |x, _| image::Rgb(if x < 32 { [255, 0, 0] } else { [0, 0, 255] }))
    }

    const PLACE: Place = Place { columns: 8, rows: 2, cell: (8, 16) };

    fn text(protocol: Protocol) -> String {
        String::from_utf8(encode(&picture(), PLACE, protocol).unwrap()).unwrap()
    }

    #[test]
    fn a_place_keeps_the_shape_and_stays_inside() {
        let place = |width, height| {
            let place = Place::fit(width, height, 40, 12, (8, 16));
            (place.columns, place.rows)
        };
        assert_eq!(place(64, 64), (24, 12));
        assert_eq!(place(832, 480), (40, 12));
        assert_eq!(place(480, 832), (14, 12));
        assert_eq!(place(4096, 16), (40, 1));
        assert_eq!(place(0, 0), (24, 12));
    }

    #[test]
    fn kitty_gets_every_pixel_in_parts_and_is_asked_for_no_answer() {
        let text = text(Protocol::Kitty);
        let parts: Vec<_> = text.split("\x1b\\").filter(|part| !part.is_empty()).collect();
        assert!(parts[0].starts_with("\x1b_Ga=T,f=24,i="), "{}", parts[0]);
        assert!(parts[0].contains(",s=64,v=32,c=8,r=2,m=1;"), "{}", parts[0]);
        assert!(parts.iter().all(|part| part.contains("q=2")));
        assert!(parts.last().unwrap().contains("m=0;"));
        let data: String = parts.iter().map(|part| part.split_once(';').unwrap().1).collect();
        assert_eq!(&STANDARD.decode(data).unwrap(), picture().as_raw());
    }

    #[test]
    fn iterm_gets_a_png() {
        let text = text(Protocol::Iterm);
        assert!(text.starts_with("\x1b]1337;File=inline=1;size="), "{text}");
        let data = text.split_once(':').unwrap().1.trim_end_matches('\x07');
        let png = image::load_from_memory(&STANDARD.decode(data).unwrap()).unwrap();
        assert_eq!(png.to_rgb8(), picture());
    }

    #[test]
    fn sixels_stay_within_the_place() {
        let bytes = encode(&picture(), PLACE, Protocol::Sixel).unwrap();
        let image = icy_sixel::SixelImage::decode(&bytes).unwrap();
        // 32 pixels high are 5 sixels.
        assert_eq!((image.width, image.height), (64, 30));
        let left = &image.pixels[..3];
        assert!(left[0] > 200 && left[2] < 60, "{left:?}");
    }

    #[test]
    fn blocks_show_two_pixels_per_character() {
        let text = text(Protocol::Blocks { truecolor: true });
        assert_eq!(text.matches('▀').count(), 16);
        assert!(text.starts_with("\x1b[38;2;255;0;0;48;2;255;0;0m▀"), "{text}");
        assert!(text.ends_with("\x1b[38;2;0;0;255;48;2;0;0;255m▀\x1b[0m"), "{text}");
        assert_eq!(text.matches("\r\n").count(), 1);
        let few = encode(&picture(), PLACE, Protocol::Blocks { truecolor: false }).unwrap();
        assert!(String::from_utf8(few).unwrap().starts_with("\x1b[38;5;196;48;5;196m▀"));
    }
}
