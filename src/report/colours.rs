//! Colours of the rows, the same in tables, curves, sheets and plots.

/// Colours of equal visual weight that go from one to the next, so that ordered settings read as ordered. Each has a
/// contrast of 3 at least to white and to the dark background of the page.
const RAMP: [[u8; 3]; 7] = [
    [0x3b, 0x76, 0xc4],
    [0x14, 0x8f, 0xa0],
    [0x2f, 0x8f, 0x4e],
    [0x8a, 0x87, 0x1c],
    [0xcf, 0x6f, 0x17],
    [0xcf, 0x44, 0x46],
    [0xa8, 0x4f, 0xb0],
];

/// The colour of row `row` of `rows`.
pub(super) fn colour(row: usize, rows: usize) -> [u8; 3] {
    let last = RAMP.len() - 1;
    let place = match rows {
        0 | 1 => 0.0,
        rows => row.min(rows - 1) as f64 * last as f64 / (rows - 1) as f64,
    };
    let from = (place as usize).min(last - 1);
    let part = place - from as f64;
    std::array::from_fn(|channel| {
        let (a, b) = (f64::from(RAMP[from][channel]), f64::from(RAMP[from + 1][channel]));
        (a + (b - a) * part).round() as u8
    })
}

/// As CSS writes it.
pub(super) fn css(colour: [u8; 3]) -> String {
    let [r, g, b] = colour;
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: [u8; 3]) -> f64 {
        let [r, g, b] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            match part <= 0.040_45 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn colours_are_seen_on_light_and_dark() {
        for rows in 1..=30 {
            for row in 0..rows {
                let colour = colour(row, rows);
                assert!(contrast(colour, [255; 3]) >= 3.0, "{}", css(colour));
                assert!(contrast(colour, [0x15, 0x18, 0x1d]) >= 3.0, "{}", css(colour));
            }
        }
    }

    #[test]
    fn the_ends_of_the_ramp_are_used() {
        assert_eq!(css(colour(0, 1)), "#3b76c4");
        assert_eq!(colour(6, 7), RAMP[6]);
        assert_eq!(colour(99, 100), RAMP[6]);
    }
}
