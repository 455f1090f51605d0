//! The tokenizer that the file of a text encoder carries.

use std::{io::Read, path::Path};

use super::{
    super::{CheckpointError, map_file},
    header::{Header, HeaderError},
    read_header,
    reader::{Array, Value},
    told,
};
use crate::files;

/// A vocabulary of SentencePiece's unigram model.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Pieces in the order of their ids.
    pub pieces: Vec<Piece>,
    /// How characters are normalised, as SentencePiece stores it; empty for not at all.
    pub characters: Vec<u8>,
    /// Whether a space is put before a text.
    pub adds_space: bool,
    /// Whether several spaces count as one.
    pub joins_spaces: bool,
    /// Ids of the token for what is unknown, and of the end of a text.
    pub unknown: usize,
    pub end: usize,
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub text: String,
    /// Logarithm of its probability.
    pub score: f64,
    /// Whether it is a mark such as `</s>`, and no text.
    pub is_mark: bool,
}

/// Numbers of types of tokens that stand for no text: unknown, control, user-defined.
const MARKS: [i128; 3] = [2, 3, 4];

/// Whether a file begins as a GGUF file does.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    files::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == *b"GGUF"
}

/// Whether a file is a GGUF file with a tokenizer in it.
pub fn carries_tokenizer(path: &Path) -> bool {
    let model = |header: Header| header.metadata.contains_key("tokenizer.ggml.model");
    let header = || map_file(path).ok().and_then(|map| Header::read(&map).ok());
    is_gguf(path) && header().is_some_and(model)
}

impl Vocabulary {
    /// Reads the vocabulary of a GGUF file; none where it has no tokenizer.
    ///
    /// # Errors
    /// When the file cannot be read, or its tokenizer is damaged or not one of SentencePiece.
    pub fn open(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let map = map_file(path)?;
        let header = read_header(path, &map)?;
        Self::of(&header, &map).map_err(|error| told(path, error))
    }

    fn of(header: &Header, file: &[u8]) -> Result<Option<Self>, HeaderError> {
        const PREFIX: &str = "tokenizer.ggml.";
        let get = |key: &str| header.metadata.get(&format!("{PREFIX}{key}"));
        match get("model") {
            None => return Ok(None),
            Some(Value::Text(model)) if model == "t5" => {}
            Some(model) => {
                let model = match model {
                    Value::Text(model) => model.chars().take(40).flat_map(char::escape_debug).collect(),
                    _ => String::from("no text"),
                };
                return Err(HeaderError::Unsupported(
                    format!("its tokenizer is `{model}`, expected `t5`"),
                    "give the `tokenizer.json` of google/umt5-xxl",
                ));
            }
        }
        let array = |key: &str| match get(key) {
            Some(Value::Array(array)) => Ok(array),
            _ => Err(format!("its tokenizer has no list `{PREFIX}{key}`")),
        };
        let (texts, scores, kinds) = (array("tokens")?, array("scores")?, array("token_type")?);
        let pieces = pieces(file, texts, scores, kinds)?;
        let flag = |key: &str| !matches!(get(key), Some(Value::Bool(false)));
        let id = |key: &str, default: usize| match get(key) {
            None => Ok(default),
            Some(Value::Integer(id)) => usize::try_from(*id)
                .ok()
                .filter(|id| *id < pieces.len())
                .ok_or_else(|| format!("its `{PREFIX}{key}` is {id}, and the vocabulary has {}", pieces.len())),
            Some(_) => Err(format!("its `{PREFIX}{key}` is no whole number")),
        };
        let kind_of_unknown = kinds.values(file).position(|kind| kind == Value::Integer(2));
        let characters = match get("precompiled_charsmap") {
            None => Vec::new(),
            Some(Value::Array(bytes)) => bytes
                .bytes(file)
                .ok_or_else(|| format!("its `{PREFIX}precompiled_charsmap` is no list of bytes"))?
                .to_vec(),
            Some(_) => return Err(format!("its `{PREFIX}precompiled_charsmap` is no list").into()),
        };
        Ok(Some(Self {
            characters,
            adds_space: flag("add_space_prefix"),
            joins_spaces: flag("remove_extra_whitespaces"),
            unknown: id("unknown_token_id", kind_of_unknown.unwrap_or(0))?,
            end: id("eos_token_id", 1)?,
            pieces,
        }))
    }
}

fn pieces(file: &[u8], texts: &Array, scores: &Array, kinds: &Array) -> Result<Vec<Piece>, String> {
    if scores.count != texts.count || kinds.count != texts.count || texts.count < 2 {
        return Err(format!(
            "its tokenizer has {} tokens, {} scores and {} types",
            texts.count, scores.count, kinds.count
        ));
    }
    let pieces = texts.values(file).zip(scores.values(file)).zip(kinds.values(file));
    let pieces = pieces.map(|piece| match piece {
        ((Value::Text(text), Value::Float(score)), Value::Integer(kind)) if score.is_finite() => Some(Piece {
            text,
            score,
            is_mark: MARKS.contains(&kind),
        }),
        _ => None,
    });
    let pieces: Option<Vec<_>> = pieces.collect();
    pieces.ok_or_else(|| "its tokenizer has a token that is no text, or whose score is no number".into())
}
