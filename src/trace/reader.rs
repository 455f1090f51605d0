//! Reads a trace back, checked, so that what draws it need not look twice.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use serde_json::Value;

use super::{
    FORMAT, TraceError,
    format::{Attention, Chunk, End, Header, Line, RoomMade, Shape},
    pack::{self, total},
};
use crate::files;

/// Longest line that is read.
const LONGEST_LINE: u64 = 64 << 20;
/// Kinds of lines that this format has.
const KINDS: [&str; 5] = ["header", "event", "attention", "chunk", "end"];

/// A trace as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub header: Header,
    pub chunks: Vec<Chunk>,
    pub events: Vec<RoomMade>,
    pub attention: Vec<Attention>,
    /// Missing when the run was killed, or is going on.
    pub end: Option<End>,
    /// Where reading stopped before the end of the file.
    pub damage: Option<Damage>,
}

/// A line that is no whole line of a trace; it and what follows is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the line, from 1.
    pub line: usize,
    pub reason: String,
}

impl Trace {
    /// Reads the whole lines of a file.
    ///
    /// # Errors
    /// When it cannot be read, its first line is no header of a known format, or no chunk follows.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let unreadable = |error: std::io::Error| TraceError::Unreadable {
            path: path.into(),
            reason: error.to_string(),
        };
        if path.is_dir() {
            return Err(TraceError::IsFolder { path: path.into() });
        }
        let mut lines = BufReader::new(files::open(path).map_err(unreadable)?);
        let first = next_line(&mut lines).map_err(unreadable)?;
        let header = match &first {
            None => Err("it is empty".into()),
            Some(line) => header(line, path)?,
        };
        let header = header.map_err(|reason| TraceError::NotATrace {
            path: path.into(),
            reason,
        })?;
        let mut trace = Self {
            header,
            chunks: Vec::new(),
            events: Vec::new(),
            attention: Vec::new(),
            end: None,
            damage: None,
        };
        let mut number = 1;
        while let Some(line) = next_line(&mut lines).map_err(unreadable)? {
            number += 1;
            if let Err(reason) = trace.take(&line) {
                trace.damage = Some(Damage { line: number, reason });
                break;
            }
        }
        match trace.leave_out_unfinished() {
            true => Ok(trace),
            false => Err(TraceError::Nothing { path: path.into() }),
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err("it is cut off".into());
        };
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match value.get("kind").and_then(Value::as_str) {
            None => return Err("it has no kind".into()),
            Some(kind) if !KINDS.contains(&kind) => return Ok(()),
            Some(_) => {}
        }
        let line: Line = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let shape = self.header.shape;
        match line {
            Line::Header(_) => return Err("it is a second header".into()),
            Line::Event(event) => {
                check_event(&event, &shape)?;
                self.events.push(event);
            }
            Line::Attention(attention) => {
                check_attention(&attention, &shape)?;
                self.attention.push(attention);
            }
            Line::Chunk(chunk) => {
                if ![1, shape.layers].contains(&chunk.layers.len()) {
                    return Err(format!("it tells of {} layers of {}", chunk.layers.len(), shape.layers));
                }
                if self.chunks.last().is_some_and(|last| last.chunk >= chunk.chunk) {
                    return Err(format!("chunk {} comes again", chunk.chunk));
                }
                self.chunks.push(chunk);
            }
            Line::End(end) => self.end = Some(end),
        }
        Ok(())
    }

    /// Leaves out what belongs to a chunk that is not whole; whether anything is left.
    fn leave_out_unfinished(&mut self) -> bool {
        let whole: HashSet<u64> = self.chunks.iter().map(|chunk| chunk.chunk).collect();
        self.events.retain(|event| whole.contains(&event.chunk));
        self.attention.retain(|attention| whole.contains(&attention.chunk));
        !self.chunks.is_empty()
    }
}

/// A line with its end, if it has one; `None` at the end of the file.
fn next_line(file: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    file.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

/// The first line; the inner error is why it is none.
fn header(line: &[u8], path: &Path) -> Result<Result<Header, String>, TraceError> {
    let Ok(value) = serde_json::from_slice::<Value>(line) else {
        return Ok(Err("its first line is not JSON".into()));
    };
    let format = value.get("format").and_then(Value::as_u64);
    if value.get("kind").and_then(Value::as_str) != Some("header") {
        return Ok(Err("its first line is no header".into()));
    }
    match format {
        None => return Ok(Err("its header has no format".into())),
        Some(format) if format > FORMAT.into() => {
            let version = value.get("deepforcing").and_then(Value::as_str);
            return Err(TraceError::Newer {
                path: path.into(),
                format,
                version: version.unwrap_or("of another version").into(),
            });
        }
        Some(_) => {}
    }
    let header = match serde_json::from_value(value) {
        Ok(Line::Header(header)) => *header,
        Ok(_) => return Ok(Err("its first line is no header".into())),
        Err(error) => return Ok(Err(format!("its header is damaged: {error}"))),
    };
    let shape = header.shape;
    let sizes = [
        shape.layers,
        shape.heads,
        shape.rows,
        shape.columns,
        shape.chunk,
        shape.window,
    ];
    match sizes.iter().all(|size| (1..=1 << 20).contains(size)) && shape.sink <= shape.window {
        true => Ok(Ok(header)),
        false => Ok(Err("its header has sizes that no cache has".into())),
    }
}

fn check_event(event: &RoomMade, shape: &Shape) -> Result<(), String> {
    let (first, last) = event.candidates;
    let chosen: usize = event.selected.iter().map(|selected| selected.tokens).sum();
    let most = (shape.window + shape.chunk) * shape.tokens_per_frame();
    if event.layer >= shape.layers {
        return Err(format!("there is no layer {}", event.layer));
    }
    if !(event.sink <= first && first <= last && last <= event.total && event.total <= most) {
        return Err(format!(
            "sink, candidates and total of {} tokens do not go together",
            event.total
        ));
    }
    let slots = event.chosen_slots()?.len();
    if slots != chosen || event.kept > event.total || total(&event.positions) != event.kept as u64 {
        return Err(format!(
            "{chosen} tokens are selected, {slots} slots, and {} kept",
            event.kept
        ));
    }
    for selected in &event.selected {
        if selected.cells(shape.tokens_per_frame())?.len() != selected.tokens {
            return Err(format!("frame {} has other cells than tokens", selected.frame));
        }
    }
    match &event.scores {
        Some(scores) if pack::unpack_levels(&scores.levels)?.len() != chosen => {
            Err("it has other levels than tokens".into())
        }
        _ => Ok(()),
    }
}

fn check_attention(attention: &Attention, shape: &Shape) -> Result<(), String> {
    let Attention {
        layer,
        heads,
        frames,
        shares,
        ..
    } = attention;
    let fit = shares.len() == heads.len() && shares.iter().all(|of_head| of_head.len() == frames.len());
    match *layer < shape.layers && heads.iter().all(|head| *head < shape.heads) && fit {
        true => Ok(()),
        false => Err(format!("attention of layer {layer} does not fit the model")),
    }
}
