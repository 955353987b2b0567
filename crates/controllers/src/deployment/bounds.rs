//! How many pods a rolling update may have too many and too few.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The bounds of a Deployment, resolved to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) replicas: i32,
    pub(crate) surge: i32,
    pub(crate) unavailable: i32,
    pub(crate) rolling: bool,
}

impl Bounds {
    pub(crate) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate");
        if !rolling {
            return Self { replicas, surge: 0, unavailable: replicas, rolling };
        }
        let update = strategy.and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = update.and_then(|u| u.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = update.and_then(|u| u.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = resolve(surge, replicas, true);
        let mut unavailable = resolve(unavailable, replicas, false).min(replicas);
        if surge == 0 && unavailable == 0 {
            // Rounding must not bring the update to a halt.
            unavailable = 1;
        }
        Self { replicas, surge, unavailable, rolling }
    }

    /// As many pods as there may be of all revisions.
    pub(crate) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// As few available pods as there may be.
    pub(crate) fn fewest_available(&self) -> i32 {
        (self.replicas - self.unavailable).max(0)
    }
}

/// A number of pods, or a part of `total` in percent; what is neither is none.
pub(crate) fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(n) => (*n).max(0),
        IntOrString::String(text) => {
            let Some(percent) = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) else {
                return text.parse().unwrap_or(0);
            };
            let hundredths = percent.max(0).saturating_mul(i64::from(total));
            let rounded = if round_up { hundredths.saturating_add(99) } else { hundredths };
            i32::try_from(rounded / 100).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};

    fn value(text: &str) -> IntOrString {
        text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
    }

    fn check(replicas: i32, surge: &str, unavailable: &str, expected: (i32, i32)) {
        let rolling_update = Some(RollingUpdateDeployment {
            max_surge: Some(value(surge)),
            max_unavailable: Some(value(unavailable)),
        });
        let strategy = DeploymentStrategy { rolling_update, ..DeploymentStrategy::default() };
        let spec = DeploymentSpec {
            replicas: Some(replicas),
            strategy: Some(strategy),
            ..DeploymentSpec::default()
        };
        let bounds = Bounds::of(&spec);
        assert_eq!(
            (bounds.surge, bounds.unavailable),
            expected,
            "{replicas} {surge} {unavailable}"
        );
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        check(10, "25%", "25%", (3, 2));
        check(3, "25%", "25%", (1, 0));
        check(1, "0", "25%", (0, 1));
        check(4, "2", "1", (2, 1));
        check(2, "0", "5", (0, 2));
        check(0, "25%", "25%", (0, 1));
        check(3, "-1", "x", (0, 1));
    }
}
