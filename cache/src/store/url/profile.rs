//! Region and endpoint out of the shared AWS files.
//!
//! Owns only these two settings: credentials in the same files are read by the signer, never by us.

use std::path::PathBuf;

/// Longer files are not read.
const FILE_SIZE_MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// Settings of the profile, or of the one called `default`. Files that are not there or not text are as if empty.
pub(super) fn load(profile: Option<&str>, variable: &dyn Fn(&str) -> Option<String>) -> Settings {
    let home = || variable("HOME").map(PathBuf::from);
    let config = variable("AWS_CONFIG_FILE")
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".aws/config")));
    let shared = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let shared = shared.or_else(|| Some(home()?.join(".aws/credentials")));
    let mut settings = Settings::default();
    for path in [config, shared].into_iter().flatten() {
        let fits = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= FILE_SIZE_MAX_BYTES);
        if let Some(text) = fits.then(|| std::fs::read_to_string(&path).ok()).flatten() {
            settings.read(&text, profile.unwrap_or("default"));
        }
    }
    settings
}

impl Settings {
    fn read(&mut self, text: &str, profile: &str) {
        let mut inside = false;
        for line in text.lines() {
            if let Some(name) = line
                .trim()
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .map(|(name, _)| name)
            {
                let name = name.trim();
                inside = name.strip_prefix("profile ").map_or(name, str::trim) == profile;
                continue;
            }
            // Indented lines belong to a nested section such as `s3 =`.
            if !inside || line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "region" => self.region = self.region.take().or(value),
                "endpoint_url" => self.endpoint = self.endpoint.take().or(value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_profile_speaks() {
        let text = "[default]\nregion = one\n[profile work]\n# x\nregion=two\ns3 =\n  endpoint_url = no\n\
                    endpoint_url = http://h\naws_secret_access_key = hush\n[other]\nregion = three\n";
        let read = |profile: &str| {
            let mut settings = Settings::default();
            settings.read(text, profile);
            (settings.region, settings.endpoint)
        };
        assert_eq!(read("default"), (Some("one".to_owned()), None));
        assert_eq!(read("work"), (Some("two".to_owned()), Some("http://h".to_owned())));
        assert_eq!(read("missing"), (None, None));
    }
}
