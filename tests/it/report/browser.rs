//! A headless Chromium, driven through chromedriver's HTTP interface (W3C WebDriver).

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// Set to `required` where a missing browser must not go unnoticed.
const WANTED: &str = "DEEPFORCING_BROWSER_TESTS";
/// A folder for pictures of the pages, for people.
const SCREENSHOTS: &str = "DEEPFORCING_SCREENSHOTS";
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: TempDir,
}

impl Browser {
    /// Opens a window of a browser. None, said loudly, if this machine has none.
    pub fn open(width: u32, height: u32) -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                let said = format!("no chromedriver ({error}): `scripts/setup.sh --tests` installs it");
                assert_ne!(std::env::var(WANTED).as_deref(), Ok("required"), "{said}");
                // Not through `eprintln`, which is swallowed where a test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED, NOT TESTED IN A BROWSER: {said}");
                return None;
            }
        };
        let port = port(&mut driver);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE));
        let profile = tempdir().unwrap();
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
            agent: config.build().into(),
            _profile: profile,
        };
        let profile = browser._profile.path().display().to_string();
        let made = browser.post("", options(&profile, width, height));
        let id = made["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {made}"));
        browser.session += &format!("/{id}");
        // Leaves the page that a new window shows, and forgets what it asked for.
        browser.post("/url", json!({ "url": "about:blank" }));
        browser.log("performance");
        Some(browser)
    }

    fn post(&self, command: &str, body: Value) -> Value {
        let sent = self
            .agent
            .post(format!("{}{command}", self.session))
            .send(body.to_string());
        let text = sent
            .unwrap()
            .body_mut()
            .with_config()
            .limit(1 << 28)
            .read_to_string()
            .unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        let value = answer["value"].clone();
        assert!(value.get("error").is_none(), "{command} {body}: {value}");
        value
    }

    pub fn go(&self, page: &Path) {
        let url = format!("file://{}", page.display());
        self.post("/url", json!({ "url": url }));
    }

    /// The value of a script's `return`.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns true.
    #[track_caller]
    pub fn wait(&self, script: &str) {
        let started = Instant::now();
        while self.run(script) != Value::Bool(true) {
            assert!(
                started.elapsed() < PATIENCE,
                "never true: {script}\n{:?}",
                self.console()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Clicks as a user would: scrolls there, and fails if something covers it.
    pub fn click(&self, selector: &str) {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector }));
        let id = found
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        self.post(&format!("/element/{id}/click"), json!({}));
    }

    /// Types keys into what has the focus.
    pub fn keys(&self, keys: &str) {
        let presses: Vec<_> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keys", "actions": presses }] }),
        );
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.post("/se/log", json!({ "type": kind }));
        log.as_array().cloned().unwrap_or_default()
    }

    /// What the console has said since it was last asked.
    pub fn console(&self) -> Vec<String> {
        let log = self.log("browser");
        log.iter()
            .map(|line| format!("{} {}", line["level"], line["message"]))
            .collect()
    }

    /// Addresses that were asked for since this was last called.
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance");
        let events = events.iter().filter_map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            let url = event["message"]["params"]["request"]["url"].as_str()?.to_owned();
            sent.then_some(url)
        });
        events.collect()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Keeps a picture of the page for people, if they asked for it.
    pub fn screenshot(&self, name: &str) {
        let Some(folder) = std::env::var_os(SCREENSHOTS) else {
            return;
        };
        let shot = self.devtools("Page.captureScreenshot", json!({}));
        let png = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the window; without it, the browser would outlive its driver.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The port that chromedriver says it listens on.
fn port(driver: &mut Child) -> u16 {
    let stdout = BufReader::new(driver.stdout.take().unwrap());
    for line in stdout.lines() {
        let line = line.unwrap();
        let Some((_, rest)) = line.split_once("started successfully on port ") else {
            continue;
        };
        return rest.trim_end_matches('.').parse().unwrap();
    }
    panic!("chromedriver did not start");
}

fn options(profile: &str, width: u32, height: u32) -> Value {
    let arguments = [
        "--headless".to_owned(),
        "--no-sandbox".into(),
        "--disable-gpu".into(),
        "--disable-dev-shm-usage".into(),
        "--disable-quic".into(),
        "--no-first-run".into(),
        "--disable-background-networking".into(),
        "--disable-component-update".into(),
        "--disable-sync".into(),
        format!("--user-data-dir={profile}"),
        format!("--window-size={width},{height}"),
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    }}})
}
