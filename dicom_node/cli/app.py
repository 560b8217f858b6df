"""The `similis` command with its subcommands."""

import typer

from dicom_node.cli import (
    backup,
    check,
    classify,
    config,
    demo,
    embed,
    evaluate,
    export_conformance,
    finish,
    forget,
    import_,
    migrate_database,
    reindex,
    restore,
    retry,
    serve,
    show,
    similar,
    status,
    train,
)

app = typer.Typer(
    name="similis",
    help="A DICOM node beside a PACS: which earlier cases look like this one?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("import")(import_.import_)
app.command("retry")(retry.retry)
app.command("similar")(similar.similar)
app.command("classify")(classify.classify)
app.command("show")(show.show)
app.command("status")(status.status)
app.command("forget")(forget.forget)
app.command("check")(check.check)
app.command("reindex")(reindex.reindex)
app.command("backup")(backup.backup)
app.command("restore")(restore.restore)
app.command("config")(config.config)
app.command("migrate-database")(migrate_database.migrate_database)
app.add_typer(train.app, name="train")
app.command("finish")(finish.finish)
app.command("evaluate")(evaluate.evaluate)
app.command("embed")(embed.embed)
app.command("export-conformance")(export_conformance.export_conformance)
