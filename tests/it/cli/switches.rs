//! Prompts that change on the way.

use crate::cli::program::Desk;

/// Bytes of a picture of 32×32.
const PICTURE: usize = 32 * 32 * 3;

#[test]
fn a_switch_changes_what_comes_after_it_and_nothing_before() {
    let desk = Desk::new();
    let plain = desk.pixels(&[]);
    // The second chunk begins with picture 9, at 0.5625 s.
    let switched = desk.pixels(&["--switch", "3f: green hills"]);
    assert_eq!(plain.len(), 24 * PICTURE);
    assert!(plain[..9 * PICTURE] == switched[..9 * PICTURE]);
    assert!(plain[9 * PICTURE..10 * PICTURE] != switched[9 * PICTURE..10 * PICTURE]);
    // The same place by its time.
    assert!(switched == desk.pixels(&["--switch", "0.5625s: green hills"]));
}

#[test]
fn a_switch_within_a_chunk_waits_for_the_next_one_and_says_so() {
    let desk = Desk::new();
    let assert = desk
        .command("out.rgb", &["--switch", "0.2s: green hills"])
        .assert()
        .success();
    assert.stderr(predicates::str::contains("takes effect with the next chunk, at 0.5"));
    let moved = std::fs::read(desk.video("out.rgb")).unwrap();
    assert!(moved == desk.pixels(&["--switch", "3f: green hills"]));
}
