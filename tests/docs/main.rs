//! What is written about the program, held against the program.
//!
//! | module | what it checks |
//! |---|---|
//! | `citations` | pages of `docs/algorithms` that comments cite, and their sections |

mod citations;
mod pages;
