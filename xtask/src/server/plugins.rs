//! Whether the plugins run that should: one whose signature was refused is simply absent, while everything else says OK.

use super::client::Client;
use super::failure::Result;
use super::model::PluginStatus;

/// Asks the server, which has started its plugins before it answers anything: a line for each of the ids `expected` that does not run.
pub fn plugin_states(client: &Client, expected: &[&str]) -> Result<Vec<String>> {
    Ok(problems(expected, &client.plugin_statuses()?))
}

/// A line for each of `expected` that does not run.
pub fn problems(expected: &[&str], found: &[PluginStatus]) -> Vec<String> {
    let problem = |id: &&str| match found.iter().find(|plugin| plugin.plugin_id == **id) {
        None => Some(format!("{id}: not installed; its signature was refused, or it is not in the image (the server's log says which)")),
        Some(plugin) if plugin.is_running() => None,
        Some(plugin) if plugin.error.is_empty() => {
            Some(format!("{id} {}: state {} instead of {}", plugin.version, plugin.state, PluginStatus::RUNNING))
        }
        Some(plugin) => Some(format!("{id} {}: {}", plugin.version, plugin.error)),
    };
    expected.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_failed_and_stopped_plugins_are_told_and_running_ones_are_not() {
        let plugin = |id: &str, state, error: &str| PluginStatus {
            plugin_id: id.to_owned(),
            state,
            error: error.to_owned(),
            version: "1.1.0".to_owned(),
        };
        let found = [plugin("calls", 2, ""), plugin("jenkins", 3, "plugin failed to activate"), plugin("gitlab", 0, "")];
        let told = problems(&["calls", "jenkins", "gitlab", "boards"], &found);
        assert_eq!(told.len(), 3);
        assert_eq!(told[0], "jenkins 1.1.0: plugin failed to activate");
        assert_eq!(told[1], "gitlab 1.1.0: state 0 instead of 2");
        assert!(told[2].starts_with("boards: not installed"), "{told:?}");
    }
}
