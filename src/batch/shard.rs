//! Which part of a list a process renders.

use std::{fmt, str::FromStr};

use super::BatchError;

/// Part `index` (from 0) of `count` parts; every `count`-th video belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Shard {
    /// The whole list.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// Whether the video `index` of the list belongs to it.
    pub fn holds(self, index: usize) -> bool {
        index % self.count == self.index
    }

    /// What goes into the names of the files of a process: nothing when there is only one.
    pub(super) fn suffix(self) -> String {
        match self.count {
            1 => String::new(),
            count => format!("-{}-of-{count}", self.index),
        }
    }

    /// The part that a cluster's variables say, with their names: of a Slurm job array, or an indexed job of Kubernetes
    /// (which must set `JOB_COMPLETIONS` itself).
    ///
    /// # Errors
    /// [`BatchError::ShardVariables`], rather than rendering the whole list in every process.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, &'static str)>, BatchError> {
        let number = |name: &str| -> Result<Option<usize>, BatchError> {
            let Some(text) = variable(name) else { return Ok(None) };
            let number = text.trim().parse();
            number.map(Some).map_err(|_| BatchError::ShardVariables {
                reason: format!("{name} is `{text}`, expected a whole number"),
            })
        };
        let part = |index: Option<usize>, count: usize, told: String| match index {
            Some(index) if index < count => Ok(Self { index, count }),
            _ => Err(BatchError::ShardVariables {
                reason: format!("{told} does not lie in {count} parts"),
            }),
        };
        if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
            let count = number("SLURM_ARRAY_TASK_COUNT")?.ok_or_else(|| BatchError::ShardVariables {
                reason: "SLURM_ARRAY_TASK_ID is set and SLURM_ARRAY_TASK_COUNT is not".into(),
            })?;
            let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let index = id.checked_sub(first).filter(|from| from % step == 0);
            let told = format!("SLURM_ARRAY_TASK_ID {id} (from {first} in steps of {step})");
            return part(index.map(|from| from / step), count, told).map(|shard| Some((shard, "SLURM_ARRAY_TASK_ID")));
        }
        if let Some(index) = number("JOB_COMPLETION_INDEX")? {
            let count = number("JOB_COMPLETIONS")?.ok_or_else(|| BatchError::ShardVariables {
                reason: "JOB_COMPLETION_INDEX is set and JOB_COMPLETIONS is not; set it to the job's `completions`"
                    .into(),
            })?;
            let told = format!("JOB_COMPLETION_INDEX {index}");
            return part(Some(index), count, told).map(|shard| Some((shard, "JOB_COMPLETION_INDEX")));
        }
        Ok(None)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "expected I/N, for example 0/4 for the first of four parts".to_string();
        let (index, count) = text.split_once('/').ok_or_else(form)?;
        let (index, count) = (index.parse().map_err(|_| form())?, count.parse().map_err(|_| form())?);
        if count == 0 {
            return Err("there are no 0 parts; expected I/N with N from 1".into());
        }
        match index < count {
            true => Ok(Self { index, count }),
            false => Err(format!(
                "parts count from 0, so the last of {count} is {}/{count}",
                count - 1
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Shard>, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let shard = Shard::from_variables(find).map_err(|error| error.to_string())?;
        Ok(shard.map(|(shard, _)| shard))
    }

    #[test]
    fn parts_are_read_and_wrong_ones_are_refused() {
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        assert_eq!("0/1".parse(), Ok(Shard::ALL));
        for text in ["3/2", "2/2", "0/0", "1", "-1/2", "a/b", "1/2/3", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        let said = "3/2".parse::<Shard>().unwrap_err();
        assert!(said.contains("the last of 2 is 1/2"), "{said}");
    }

    #[test]
    fn parts_share_a_list_without_gaps() {
        for index in 0..20 {
            let holders = (0..3).filter(|part| Shard { index: *part, count: 3 }.holds(index));
            assert_eq!(holders.count(), 1);
        }
    }

    #[test]
    fn clusters_say_the_part() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
        ];
        assert_eq!(of(&slurm), Ok(Some(Shard { index: 2, count: 4 })));
        assert_eq!(of(&slurm[1..]), Ok(None));
        assert!(of(&slurm[..1]).unwrap_err().contains("SLURM_ARRAY_TASK_COUNT is not"));
        assert!(of(&[slurm[0], slurm[1]]).unwrap_err().contains("4 parts"));
        assert!(of(&[("SLURM_ARRAY_TASK_ID", "x")]).unwrap_err().contains("`x`"));
        let kubernetes = [("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "2")];
        assert_eq!(of(&kubernetes), Ok(Some(Shard { index: 1, count: 2 })));
        assert!(of(&kubernetes[..1]).unwrap_err().contains("JOB_COMPLETIONS is not"));
    }
}
