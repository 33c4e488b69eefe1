package settings

import "slices"

// The table. A row that is not done yet, or has no meaning here, stands by
// itself; what works and what is refused is listed by the test that shows it.
var table = slices.Concat(
	[]Setting{
		// Formats of targets that are not read yet.
		{Kind: Key, Name: "<scrape>.scrape_native_histograms", Status: NotYet,
			Says: "native histograms need protobuf, which is not supported; targets are scraped in a text format, which carries classic histograms only"},
		{Kind: Label, Name: "__scrape_native_histograms__", Status: NotYet,
			Says: "native histograms need protobuf, which is not supported; targets are scraped in a text format, which carries classic histograms only"},
		{Kind: Key, Name: "<scrape>.convert_classic_histograms_to_nhcb", Status: NotYet,
			Says: "classic histograms are sent as _bucket, _sum and _count series; queries that expect native histograms find nothing"},
		{Kind: Label, Name: "__convert_classic_histograms_to_nhcb__", Status: NotYet,
			Says: "classic histograms are sent as _bucket, _sum and _count series; queries that expect native histograms find nothing"},
		{Kind: Key, Name: "<scrape>.always_scrape_classic_histograms", Status: NotYet,
			Says: "the classic series of a histogram are scraped always, and the native histogram beside them is not read"},
		{Kind: Label, Name: "__always_scrape_classic_histograms__", Status: NotYet,
			Says: "the classic series of a histogram are scraped always, and the native histogram beside them is not read"},
		{Kind: Key, Name: "scrape_configs.native_histogram_bucket_limit", Status: NotYet,
			Says: "native histograms are not scraped, so the limit never applies"},
		{Kind: Key, Name: "scrape_configs.native_histogram_min_bucket_factor", Status: NotYet,
			Says: "native histograms are not scraped, so there are no buckets to merge"},
		{Kind: Key, Name: "<scrape>.scrape_protocols", Value: "PrometheusProto", Status: NotYet,
			Says: "protobuf is not supported; the remaining protocols of the list are negotiated, or any text format if none remains"},
		{Kind: Key, Name: "<scrape>.scrape_protocols", Value: "OpenMetricsText2.0.0", Status: NotYet,
			Says: "OpenMetrics 2.0 is not supported; the remaining protocols of the list are negotiated, or any text format if none remains"},
		{Kind: Key, Name: "scrape_configs.fallback_scrape_protocol", Value: "PrometheusProto", Status: NotYet,
			Says: "protobuf is not read; a body whose Content-Type is missing or unknown fails the scrape"},
		{Kind: Key, Name: "scrape_configs.fallback_scrape_protocol", Value: "OpenMetricsText2.0.0", Status: NotYet,
			Says: "OpenMetrics 2.0 is not read; a body whose Content-Type is missing or unknown is read as OpenMetrics 1.0"},
		{Kind: Key, Name: "remote_write.send_native_histograms", Status: NotYet,
			Says: "there are no native histograms to send: the series of classic ones are sent"},
		{Kind: Key, Name: "remote_write.convert_nhcb_to_classic", Status: NotYet,
			Says: "there are no native histograms to convert: classic histograms are sent as they were scraped"},
		{Kind: Feature, Name: "native-histograms", Status: NotYet,
			Says: "native histograms need protobuf, which is not supported; targets are scraped in a text format, which carries classic histograms only"},
		{Kind: Feature, Name: "created-timestamp-zero-ingestion", Status: NotYet,
			Says: "start timestamps are not read: no zero samples are injected, and _created lines are stored as ordinary series"},
		{Kind: Feature, Name: "st-storage", Status: NotYet,
			Says: "start timestamps are not read: remote write 2.0 carries none, and _created lines are stored as ordinary series"},
		{Kind: Feature, Name: "st-synthesis", Status: NotYet,
			Says: "no start timestamps are made: remote write 2.0 carries none"},
		{Kind: Feature, Name: "openmetrics2", Status: NotYet,
			Says: "OpenMetrics 2.0 is neither asked for nor read; a target that answers in it fails its scrapes"},

		// What is pushed.
		{Kind: Flag, Name: "web.enable-remote-write-receiver", Default: "false", Status: NotYet,
			Says: "prom-agent does not receive remote write: senders get 404 and drop their samples; point them at the remote_write URL instead"},
		{Kind: Flag, Name: "web.remote-write-receiver.accepted-protobuf-messages", Status: NotYet,
			Default: "prometheus.WriteRequest,io.prometheus.write.v2.Request",
			Says:    "prom-agent does not receive remote write: senders get 404, whatever they send"},
		{Kind: Flag, Name: "web.enable-otlp-receiver", Default: "false", Status: NotYet,
			Says: "prom-agent does not receive OTLP: senders get 404 and drop their samples; point them at an OTLP endpoint of the backend instead"},
		{Kind: Key, Name: "otlp", Below: true, Status: NotYet,
			Says: "prom-agent has no OTLP receiver, so this has no effect; senders get 404"},
		{Kind: Feature, Name: "otlp-deltatocumulative", Status: NotYet,
			Says: "prom-agent has no OTLP receiver, so this has no effect; senders get 404"},
		{Kind: Feature, Name: "otlp-native-delta-ingestion", Status: NotYet,
			Says: "prom-agent has no OTLP receiver, so this has no effect; senders get 404"},

		{Kind: Key, Name: "tracing", Below: true, Status: NotYet,
			Says: "no spans are sent, and scrapes and remote writes carry no traceparent header"},

		// What the log here has no use for: it is another one.
		{Kind: Flag, Name: "storage.agent.wal-segment-size", Default: "0B", Status: NoMeaning, Says: "segments of the log end by themselves"},
		{Kind: Flag, Name: "storage.agent.wal-compression", Default: "true", Status: NoMeaning, Says: "the log is always compact"},
		{Kind: Flag, Name: "storage.agent.wal-compression-type", Default: "snappy", Status: NoMeaning, Says: "the log is always compact"},
		{Kind: Flag, Name: "storage.agent.wal-truncate-frequency", Default: "0s", Status: NoMeaning, Says: "data is deleted when every remote has it"},
		{Kind: Flag, Name: "storage.agent.retention.min-time", Default: "5m", Status: NoMeaning, Says: "data is kept until every remote has it"},
		{Kind: Flag, Name: "storage.agent.checkpoint-from-in-memory-series", Default: "false", Status: NoMeaning, Says: "the log has no checkpoints"},
		{Kind: Flag, Name: "storage.agent.checkpoint-batch-size", Default: "1000", Status: NoMeaning, Says: "the log has no checkpoints"},
		{Kind: Key, Name: "remote_write.queue_config.capacity", Default: "10000", Status: NoMeaning,
			Says: "what waits for a remote waits in the log; the value is shown in `prometheus_remote_storage_shard_capacity`"},
		{Kind: Key, Name: "remote_write.failed_request_logging", Status: NoMeaning,
			Says: "what a remote refuses is always logged, once a minute, with an example"},

		{Kind: Flag, Name: "auto-gomaxprocs", Default: "true", Status: NoMeaning, Says: "the Go runtime takes a container's CPU quota by itself"},

		// What an agent has not, that of Prometheus neither.
		{Kind: Flag, Name: "web.max-notifications-subscribers", Default: "16", Status: NoMeaning, Says: "there are no live notifications"},
		{Kind: Flag, Name: "web.enable-admin-api", Default: "false", Status: NoMeaning, Says: "an agent has no admin API"},
		{Kind: Flag, Name: "web.console.templates", Default: "consoles", Status: NoMeaning, Says: "an agent has no consoles"},
		{Kind: Flag, Name: "web.console.libraries", Default: "console_libraries", Status: NoMeaning, Says: "an agent has no consoles"},
		{Kind: Feature, Name: "old-ui", Status: NoMeaning, Says: "there is one page, `/agent`"},
		{Kind: Key, Name: "global.evaluation_interval", Default: "1m", Status: NoMeaning, Says: "an agent evaluates no rules"},
		{Kind: Key, Name: "global.rule_query_offset", Status: NoMeaning, Says: "an agent evaluates no rules"},
		{Kind: Key, Name: "global.query_log_file", Status: NoMeaning, Says: "an agent answers no queries"},
		{Kind: Key, Name: "global.query_max_series", Status: NoMeaning, Says: "an agent answers no queries"},
		{Kind: Key, Name: "global.query_max_samples_read", Status: NoMeaning, Says: "an agent answers no queries"},
		{Kind: Key, Name: "global.query_max_duration", Status: NoMeaning, Says: "an agent answers no queries"},
		{Kind: Key, Name: "storage.exemplars.max_exemplars", Default: "100000", Status: NoMeaning, Says: "an agent keeps exemplars in its log, not in memory"},
		{Kind: Key, Name: "storage.tsdb.retention.time", Default: "15d", Status: NoMeaning,
			Says: "an agent has no TSDB; `--storage.agent.retention.max-time` is about its log"},
		{Kind: Key, Name: "storage.tsdb.retention.size", Status: NoMeaning,
			Says: "an agent has no TSDB; `--storage.agent.retention.max-size` is about its log"},
		{Kind: Key, Name: "storage.tsdb.retention.percentage", Status: NoMeaning,
			Says: "an agent has no TSDB; `--storage.agent.retention.max-size` is about its log"},
		{Kind: Key, Name: "storage.tsdb.chunk_encoding.floats", Status: NoMeaning, Says: "an agent has no TSDB"},
		{Kind: Key, Name: "storage.tsdb.stale_series_compaction_threshold", Status: NoMeaning, Says: "an agent has no TSDB"},
		{Kind: Key, Name: "storage.tsdb.outofordertimewindow", Status: NoMeaning,
			Says: "the parser of Prometheus takes it by accident, and overwrites it with `out_of_order_time_window`"},
	},
	without(Feature, "an agent answers no queries", "promql-binop-fill-modifiers", "promql-delayed-name-removal", "promql-duration-expr",
		"promql-experimental-functions", "promql-extended-range-selectors", "promql-per-step-stats", "promql-unquoted-utf8-names",
		"query-cost", "search-api", "use-start-timestamps"),
	without(Feature, "an agent evaluates no rules", "concurrent-rule-eval"),
	without(Feature, "an agent has no TSDB", "delayed-compaction", "exemplar-storage", "fast-startup", "histograms-st-encoding", "memory-snapshot-on-shutdown",
		"ooo-native-histograms", "use-uncached-io", "xor2-encoding"),

	// Features.
	tested(Feature, "TestFeaturesMoveOnlyWhatIsNotGiven", "extra-scrape-metrics"),
	tested(Feature, "TestReloadAppliesAGoodConfigAndLeavesTheOldOneForABrokenOne", "auto-reload-config"),
	tested(Feature, "TestTypeAndUnitLabelsComeWithTheFeature", "type-and-unit-labels"),
	always("TestEveryFlagOfAnAgentIsTaken", "agent"),
	always("TestRequestSaysWhatPrometheusSays", "zstd-scrape"),
	always("TestMetadataComesWithTheSchemaAndIsRenewed", "metadata-wal-records"),

	// Flags.
	tested(Flag, "TestMissingConfigIsNamedWithItsWholePath", "config.file"),
	tested(Flag, "TestScrapeConfigFilesAreWatchedToo", "config.auto-reload"),
	tested(Flag, "TestAutoReloadIntervalIsAtLeastASecond", "config.auto-reload-interval"),
	tested(Flag, "TestListensOnEveryAddressAndSaysSoOnce", "web.listen-address"),
	tested(Flag, "TestMemoryLimitIsAShareOfWhatThereIs", "auto-gomemlimit", "auto-gomemlimit.ratio", "auto-gomemlimit.refresh-interval"),
	tested(Flag, "TestWebConfigFileGuardsEveryPathOnEveryListener", "web.config.file"),
	tested(Flag, "TestRequestThatDoesNotEndIsCutAtTheReadTimeout", "web.read-timeout"),
	tested(Flag, "TestConnectionsBeyondTheLimitWaitForAPlaceOverAllListeners", "web.max-connections"),
	tested(Flag, "TestExternalURL", "web.external-url"),
	tested(Flag, "TestRoutePrefixAndExternalURL", "web.route-prefix"),
	tested(Flag, "TestUserAssets", "web.user-assets"),
	tested(Flag, "TestReloadAndQuit", "web.enable-lifecycle"),
	tested(Flag, "TestPageShowsWhatRuns", "web.page-title"),
	tested(Flag, "TestCORS", "web.cors.origin"),
	tested(Flag, "TestDataDirectoryOfARunningAgentIsNotTaken", "storage.agent.path"),
	tested(Flag, "TestSlowCursorLearnsWhatRetentionTook", "storage.agent.retention.max-time"),
	tested(Flag, "TestEveryFlagOfAnAgentIsTaken", "storage.agent.no-lockfile", "agent"),
	tested(Flag, "TestTheFlushDeadlineHoldsWithADeadReceiver", "storage.remote.flush-deadline"),
	tested(Flag, "TestTimestampsAreAlignedWithTheScheduleWithinTheTolerance", "scrape.adjust-timestamps", "scrape.timestamp-tolerance"),
	tested(Flag, "TestFirstTargetsAreTakenOverAtOnceAndManyChangesNowAndThen", "scrape.discovery-reload-interval"),
	tested(Flag, "TestFeatureNames", "enable-feature"),
	tested(Flag, "TestLogLevelOfTheConfigGoesBeforeTheFlagUntilItIsTakenOut", "log.level"),
	tested(Flag, "TestLogIsWrittenInTheFormatOfTheFlag", "log.format"),
	tested(Flag, "TestVersionAndHelp", "help", "version"),
	tested(Flag, "TestDocumentationOfTheCommandLineIsPrinted", "write-documentation"),
	refused(Flag, "TestServerFlagsAreRefusedByNameBeforeTheConfigIsRead",
		"storage.tsdb.path", "storage.tsdb.min-block-duration", "storage.tsdb.max-block-duration", "storage.tsdb.max-block-chunk-segment-size",
		"storage.tsdb.wal-segment-size", "storage.tsdb.retention.time", "storage.tsdb.retention.size", "storage.tsdb.no-lockfile",
		"storage.tsdb.allow-overlapping-compaction", "storage.tsdb.wal-compression", "storage.tsdb.wal-compression-type",
		"storage.tsdb.head-chunks-write-queue-size", "storage.tsdb.samples-per-chunk", "storage.tsdb.delayed-compaction.max-percent",
		"storage.tsdb.delay-compact-file.path", "storage.tsdb.block-reload-interval",
		"storage.remote.read-sample-limit", "storage.remote.read-concurrent-limit", "storage.remote.read-max-bytes-in-frame",
		"web.search.max-limit",
		"rules.alert.for-outage-tolerance", "rules.alert.for-grace-period", "rules.alert.resend-delay", "rules.max-concurrent-evals",
		"alertmanager.notification-queue-capacity", "alertmanager.notification-batch-size", "alertmanager.drain-notification-queue-on-shutdown",
		"query.lookback-delta", "query.timeout", "query.max-concurrency", "query.max-samples"),

	// Keys.
	block(Refused, "TestErrorsNameTheFileAndTheField", "alerting", "rule_files", "remote_read"),
	tested(Key, "TestJobInheritsFromGlobal", "global.scrape_interval", "global.scrape_timeout", "global.scrape_protocols", "global.body_size_limit",
		"global.sample_limit", "global.target_limit", "global.label_limit", "global.label_name_length_limit", "global.label_value_length_limit",
		"global.keep_dropped_targets", "global.scrape_failure_log_file", "global.metric_name_validation_scheme", "global.metric_name_escaping_scheme",
		"global.extra_scrape_metrics"),
	tested(Key, "TestEverythingArrivesOnceAndInOrder", "global.external_labels"),
	tested(Key, "TestGOGCOfTheConfigIsAppliedAndShown", "runtime.gogc"),
	tested(Key, "TestLogLevelOfTheConfigGoesBeforeTheFlagUntilItIsTakenOut", "runtime.log_level"),
	tested(Key, "TestPathsAreRelativeToTheFileThatHoldsThem", "scrape_config_files"),
	tested(Key, "TestLateSamplesAreTakenWithinTheWindow", "storage.tsdb.out_of_order_time_window"),

	tested(Key, "TestWhatIsLoggedIsWhatPrometheusLogs", "scrape_configs.job_name", "scrape_configs.honor_labels", "scrape_configs.honor_timestamps",
		"scrape_configs.track_timestamps_staleness", "scrape_configs.sample_limit", "scrape_configs.label_limit", "scrape_configs.label_name_length_limit",
		"scrape_configs.label_value_length_limit", "scrape_configs.body_size_limit", "scrape_configs.fallback_scrape_protocol",
		"scrape_configs.enable_compression", "scrape_configs.extra_scrape_metrics", "scrape_configs.metric_name_validation_scheme"),
	tested(Key, "TestScrapesAreSpreadAndStayWhereTheyAre", "scrape_configs.scrape_interval"),
	tested(Key, "TestTargetThatDoesNotAnswerIsDownAfterItsTimeout", "scrape_configs.scrape_timeout"),
	tested(Key, "TestRequestSaysWhatPrometheusSays", "scrape_configs.scrape_protocols", "scrape_configs.metric_name_escaping_scheme"),
	tested(Key, "TestTargetIsAskedAtTheURLOfItsLabels", "scrape_configs.params", "scrape_configs.metrics_path", "scrape_configs.scheme"),
	tested(Key, "TestTargetLimitFailsAllTargetsWithoutARequest", "scrape_configs.target_limit"),
	tested(Key, "TestDroppedTargetsAreKeptAsManyAsAskedFor", "scrape_configs.keep_dropped_targets"),
	tested(Key, "TestFailureLogHasWhatWasNotFetched", "scrape_configs.scrape_failure_log_file"),
	tested(Label, "TestTargetIsAskedAtTheURLOfItsLabels", "__address__", "__scheme__", "__metrics_path__", "__param_<name>"),
	tested(Label, "TestIntervalAndTimeoutAreThoseOfTheTargetsLabels", "__scrape_interval__", "__scrape_timeout__"),
	tested(Label, "TestTargetWithASocketIsAskedThere", "__unix_socket__"),

	tested(Key, "TestStaticTargetsHaveTheLabelsOfTheirGroup", "scrape_configs.static_configs.targets", "scrape_configs.static_configs.labels"),
	tested(Key, "TestFileDiscoveryFollowsTheFile", "scrape_configs.file_sd_configs.files", "scrape_configs.file_sd_configs.refresh_interval"),
	tested(Key, "TestFailedRefreshKeepsTheTargets", "scrape_configs.http_sd_configs.url", "scrape_configs.http_sd_configs.refresh_interval"),
	tested(Key, "TestTargetsOfDNSAreThoseOfPrometheus", "scrape_configs.dns_sd_configs.names", "scrape_configs.dns_sd_configs.type",
		"scrape_configs.dns_sd_configs.port", "scrape_configs.dns_sd_configs.refresh_interval"),
	tested(Key, "TestTargetsOfAClusterAreThoseOfPrometheus", "scrape_configs.kubernetes_sd_configs.kubeconfig_file", "scrape_configs.kubernetes_sd_configs.role",
		"scrape_configs.kubernetes_sd_configs.namespaces.names", "scrape_configs.kubernetes_sd_configs.namespaces.own_namespace",
		"scrape_configs.kubernetes_sd_configs.selectors.role", "scrape_configs.kubernetes_sd_configs.selectors.label",
		"scrape_configs.kubernetes_sd_configs.selectors.field",
		"scrape_configs.kubernetes_sd_configs.attach_metadata.node", "scrape_configs.kubernetes_sd_configs.attach_metadata.namespace",
		"scrape_configs.kubernetes_sd_configs.attach_metadata.deployment", "scrape_configs.kubernetes_sd_configs.attach_metadata.job",
		"scrape_configs.kubernetes_sd_configs.attach_metadata.cronjob"),
	tested(Key, "TestHTTPBlocksReachTheirClients", "scrape_configs.kubernetes_sd_configs.api_server"),
	block(Works, "TestTheWholeExampleOfPrometheusLoadsWithoutItsServerParts", kinds(
		"aws", "azure", "consul", "digitalocean", "docker", "dockerswarm", "ec2", "ecs", "elasticache", "eureka", "gce", "hetzner", "ionos", "kuma",
		"lightsail", "linode", "marathon", "msk", "nerve", "nomad", "oci", "openstack", "outscale", "ovhcloud", "puppetdb", "rds", "scaleway",
		"serverset", "stackit", "triton", "uyuni", "vultr")...),

	tested(Key, "TestRulesDoAsPrometheusDoes", "<relabel>.source_labels", "<relabel>.separator", "<relabel>.regex", "<relabel>.modulus",
		"<relabel>.target_label", "<relabel>.replacement", "<relabel>.action"),

	// What a block says of its HTTP client. That it gets there is another test's
	// business: TestHTTPBlocksReachTheirClients.
	tested(Key, "TestRequestsAreThoseOfPrometheus", "<http>.basic_auth.username", "<http>.basic_auth.username_file", "<http>.basic_auth.password",
		"<http>.basic_auth.password_file", "<http>.authorization.type", "<http>.authorization.credentials", "<http>.authorization.credentials_file",
		"<http>.bearer_token", "<http>.bearer_token_file", "<http>.follow_redirects",
		"<http>.http_headers.<name>.values", "<http>.http_headers.<name>.secrets", "<http>.http_headers.<name>.files"),
	tested(Key, "TestProtocolIsHTTP2WhenThatIsEnabled", "<http>.enable_http2"),
	tested(Key, "TestTokensAreFetchedAsByPrometheus", "<http>.oauth2.client_id", "<http>.oauth2.client_secret", "<http>.oauth2.client_secret_file",
		"<http>.oauth2.scopes", "<http>.oauth2.token_url", "<http>.oauth2.endpoint_params", "<http>.oauth2.grant_type",
		"<http>.oauth2.client_certificate_key", "<http>.oauth2.client_certificate_key_file", "<http>.oauth2.client_certificate_key_id",
		"<http>.oauth2.signature_algorithm", "<http>.oauth2.iss", "<http>.oauth2.audience", "<http>.oauth2.claims"),
	tested(Key, "TestProxiesAreAskedAsByPrometheus", "<proxy>.proxy_url", "<proxy>.no_proxy", "<proxy>.proxy_from_environment", "<proxy>.proxy_connect_header"),
	tested(Key, "TestTLSIsSpokenAsByPrometheus", "<tls>.ca", "<tls>.ca_file", "<tls>.cert", "<tls>.cert_file", "<tls>.key", "<tls>.key_file",
		"<tls>.server_name", "<tls>.insecure_skip_verify", "<tls>.min_version", "<tls>.max_version"),
	refused(Key, "TestReferencesToSecretsAreRefused", "<http>.basic_auth.username_ref", "<http>.basic_auth.password_ref", "<http>.authorization.credentials_ref",
		"<http>.oauth2.client_secret_ref", "<http>.oauth2.client_certificate_key_ref", "<tls>.ca_ref", "<tls>.cert_ref", "<tls>.key_ref"),

	tested(Key, "TestRequestsCarryTheProtocolsHeaders", "remote_write.url", "remote_write.headers", "remote_write.protobuf_message"),
	tested(Key, "TestRemotesAreNamedAsPrometheusNamesThem", "remote_write.name"),
	tested(Key, "TestTheTimeoutHoldsForEveryAttempt", "remote_write.remote_timeout"),
	tested(Key, "TestStaleMarkersFurtherSamplesAndExemplarsArrive", "remote_write.send_exemplars"),
	tested(Key, "TestRoundRobinDNSTakesEffect", "remote_write.round_robin_dns"),
	block(Works, "TestRequestsAreAuthenticated", "remote_write.sigv4"),
	block(Works, "TestCloudAuthenticationIsTakenUp", "remote_write.azuread", "remote_write.google_iam"),
	tested(Key, "TestChangedBoundsOfShardsTakeEffectAtOnceAndKeepTheOrder", "remote_write.queue_config.min_shards", "remote_write.queue_config.max_shards"),
	tested(Key, "TestRequestsGoOutFullOrAtTheBatchSendDeadline", "remote_write.queue_config.max_samples_per_send", "remote_write.queue_config.batch_send_deadline"),
	tested(Key, "TestWaitsDoubleAndFollowTheReceiver", "remote_write.queue_config.min_backoff", "remote_write.queue_config.max_backoff"),
	tested(Key, "TestAnswersAreFinalOrToBeTriedAgain", "remote_write.queue_config.retry_on_http_429"),
	tested(Key, "TestSamplesAreDroppedOnceWhenTheyAreTooOld", "remote_write.queue_config.sample_age_limit"),
	tested(Key, "TestMetadataIsSentWith1xAlone", "remote_write.metadata_config.send", "remote_write.metadata_config.send_interval",
		"remote_write.metadata_config.max_samples_per_send"),

	// Ours; docs/configuration.md has what they do.
	own(tested(Flag, "TestLimitHoldsFromTheStart", "storage.agent.retention.max-size")),
	own(tested(Flag, "TestCrashesLoseNothingThatWasSynced", "storage.agent.wal-sync-interval")),
)

// rows are settings of one kind about which the same is to be said.
func rows(s Setting, names []string) (all []Setting) {
	for _, s.Name = range names {
		all = append(all, s)
	}
	return all
}

// tested are settings that do their work, and refused those that are errors, as a test shows.
func tested(k Kind, test string, names ...string) []Setting {
	return rows(Setting{Kind: k, Test: test}, names)
}

func refused(k Kind, test string, names ...string) []Setting {
	return rows(Setting{Kind: k, Status: Refused, Test: test}, names)
}

// block is about keys with all that is below them.
func block(s Status, test string, names ...string) []Setting {
	return rows(Setting{Kind: Key, Below: true, Status: s, Test: test}, names)
}

// always are features that cannot be switched off.
func always(test string, names ...string) []Setting {
	return rows(Setting{Kind: Feature, Says: "it is always on here", Test: test}, names)
}

// without are settings that have no meaning here.
func without(k Kind, says string, names ...string) []Setting {
	return rows(Setting{Kind: k, Status: NoMeaning, Says: says}, names)
}

// own marks settings that Prometheus has not.
func own(settings []Setting) []Setting {
	for i := range settings {
		settings[i].Own = true
	}
	return settings
}

// kinds are the keys of service discoveries.
func kinds(names ...string) (keys []string) {
	for _, name := range names {
		keys = append(keys, "scrape_configs."+name+"_sd_configs")
	}
	return keys
}
