//! api-kube
