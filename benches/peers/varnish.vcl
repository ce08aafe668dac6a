# varnish as a plain proxy (:9306): it cannot cache by a POST's body without a module.
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "9301"; }
sub vcl_recv { return (pass); }
