//! Sweeps in a folder.

use std::process::{Child, Output, Stdio};

use crate::sweep::desk::{Batches, said};

pub struct Sweeps {
    pub desk: Batches,
}

/// Three points under which a video of 2 s differs: 9 latent frames, of which 6 are attended to.
pub const THREE: [&str; 6] = ["--policy", "fifo,sink", "--sink", "1,3", "--window", "6"];

impl Sweeps {
    /// With the prompts `a` and `b` in `list.txt`.
    pub fn new() -> Self {
        let desk = Batches::new();
        desk.write("list.txt", "a\nb\n");
        Self { desk }
    }

    /// Runs a sweep of `file` into `out`, 32×32 and 2 s long if `more` says nothing else.
    pub fn run(&self, file: &str, out: &str, more: &[&str]) -> Output {
        self.desk
            .command_of("sweep", file, out, &with_length(more))
            .output()
            .unwrap()
    }

    pub fn start(&self, out: &str, more: &[&str]) -> Child {
        let mut command = self.desk.command_of("sweep", "list.txt", out, &with_length(more));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a sweep of `list.txt` that must end with `code`; gives the lines of stdout, and stderr.
    #[track_caller]
    pub fn ends(&self, code: i32, out: &str, more: &[&str]) -> (Vec<String>, String) {
        let (stdout, stderr) = said(&self.run("list.txt", out, more), code);
        (stdout.lines().map(str::to_owned).collect(), stderr)
    }

    /// The plan of a folder.
    pub fn plan(&self, out: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.desk.path(out).join("sweep.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Names of the points of a folder, in their order.
    pub fn points(&self, out: &str) -> Vec<String> {
        let plan = self.plan(out);
        let points = plan["points"].as_array().unwrap().iter();
        points.map(|point| point["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// Without the report, which has tests of its own.
fn with_length<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let more = [more, &["--no-report"]].concat();
    match more.contains(&"--seconds") || more.contains(&"--preset") {
        true => more,
        false => [&more[..], &["--seconds", "2"]].concat(),
    }
}
