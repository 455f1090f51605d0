//! What is written about the program, held against the program.
//!
//! | module | what it checks |
//! |---|---|
//! | `citations` | pages of `docs/algorithms` that comments cite, and their sections |
//! | `rooms` | imports between the folders of `src` go one way |

mod citations;
mod pages;
mod rooms;
