//! Resident memory of a long rollout: `cargo bench --bench memory` prints it from chunk 10 to chunk 200 (Linux).

use std::{fs, time::Instant};

use deepforcing::{cache::PolicyName, rollout::ChunkLoop};

#[allow(dead_code, reason = "shared with the other benchmark")]
mod common;

use common::{Size, rollout};

fn main() {
    for policy in [PolicyName::DeepForcing, PolicyName::Fifo] {
        let mut rollout = rollout(Size::Mid, policy, 200);
        let begin = Instant::now();
        for chunk in 1..=200 {
            rollout.next_chunk(&mut |_| ()).unwrap().unwrap();
            if [10, 25, 50, 100, 150, 200].contains(&chunk) {
                let seconds = begin.elapsed().as_secs_f64();
                println!("{policy}: chunk {chunk:3}: {} kB resident, {seconds:.1} s", resident());
            }
        }
    }
}

/// VmRSS in kB.
fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .unwrap_or("unknown")
        .to_owned()
}
