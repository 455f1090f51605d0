//! Measuring on a thread of its own, beside what makes the pictures.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use super::{Metrics, MetricsError, Options, Report};
use crate::{Error, Result, video::for_each_frame};

/// Groups of pictures that may wait: one is measured while the next comes.
const WAITING: usize = 1;

/// Takes groups of pictures and measures them on its own thread. When that falls behind, [`Measuring::push`] waits for
/// it: two groups are in memory at most.
pub struct Measuring {
    pictures: SyncSender<Vec<Vec<u8>>>,
    thread: JoinHandle<Result<Report, MetricsError>>,
}

impl Measuring {
    /// As [`Metrics::new`].
    ///
    /// # Errors
    /// As [`Metrics::new`], or when the system gives no thread.
    pub fn start(width: usize, height: usize, fps: f64, options: Options) -> Result<Self, MetricsError> {
        let metrics = Metrics::new(width, height, fps, options)?;
        let (pictures, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new()
            .name("metrics".into())
            .spawn(move || measure(metrics, waiting));
        let thread = thread.map_err(|error| MetricsError::Thread {
            reason: error.to_string(),
        })?;
        Ok(Self { pictures, thread })
    }

    /// Takes the next pictures: rows, columns, red-green-blue. What is wrong with them is said by
    /// [`Measuring::finish`].
    pub fn push(&self, pictures: Vec<Vec<u8>>) {
        // Nobody listens after an error, which `finish` returns.
        let _ = self.pictures.send(pictures);
    }

    /// The values of all metrics, once all pictures are measured.
    ///
    /// # Errors
    /// As [`Metrics::push`] and [`Metrics::finish`].
    pub fn finish(self) -> Result<Report> {
        drop(self.pictures);
        match self.thread.join() {
            Ok(report) => Ok(report?),
            Err(_) => Err(Error::StagePanicked { stage: "measuring" }),
        }
    }
}

fn measure(mut metrics: Metrics, pictures: Receiver<Vec<Vec<u8>>>) -> Result<Report, MetricsError> {
    for picture in pictures.into_iter().flatten() {
        metrics.push(&picture)?;
    }
    metrics.finish()
}

/// Measures a video file. `rate` says how many pictures per second to count with, given what the file says.
///
/// # Errors
/// When the file cannot be read, or the rate cannot be.
pub fn measure_file(path: &Path, options: Options, rate: impl Fn(Option<f64>) -> f64) -> Result<Report> {
    let mut metrics: Option<Metrics> = None;
    for_each_frame::<Error>(path, |picture| {
        let measuring = match &mut metrics {
            Some(measuring) => measuring,
            none => {
                let (width, height) = (picture.width as usize, picture.height as usize);
                none.insert(Metrics::new(width, height, rate(picture.fps), options)?)
            }
        };
        Ok(measuring.push(picture.rgb)?)
    })?;
    Ok(metrics.ok_or(MetricsError::NoPictures)?.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_what_a_single_thread_measures() {
        let picture = |shade: usize| -> Vec<u8> {
            let pixels = 0..32 * 32 * 3;
            pixels.map(|at| ((at * 7 + shade * 5) % 251) as u8).collect()
        };
        let mut alone = Metrics::new(32, 32, 16.0, Options::default()).unwrap();
        let beside = Measuring::start(32, 32, 16.0, Options::default()).unwrap();
        for group in 0..9 {
            let pictures: Vec<_> = (0..12).map(|at| picture(12 * group + at)).collect();
            pictures.iter().for_each(|picture| alone.push(picture).unwrap());
            beside.push(pictures);
        }
        assert_eq!(beside.finish().unwrap(), alone.finish().unwrap());
    }

    #[test]
    fn an_error_comes_at_the_end_and_blocks_nobody() {
        let measuring = Measuring::start(4, 4, 16.0, Options::default()).unwrap();
        for _ in 0..10 {
            measuring.push(vec![vec![0; 4 * 4 * 3], vec![0; 5]]);
        }
        let error = measuring.finish().unwrap_err().to_string();
        assert!(error.contains("picture 1 has 5 bytes"), "{error}");
        let none = Measuring::start(4, 4, 16.0, Options::default()).unwrap();
        assert!(matches!(none.finish(), Err(Error::Metrics(MetricsError::NoPictures))));
        assert!(Measuring::start(0, 4, 16.0, Options::default()).is_err());
    }
}
