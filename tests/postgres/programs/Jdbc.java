import java.io.*;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;

class Jdbc {
  static Connection connection;

  static String one(String query, Object... values) throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(query)) {
      for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
      try (ResultSet rows = statement.executeQuery()) {
        rows.next();
        return rows.getString(1);
      }
    }
  }

  static void run(String text) throws SQLException {
    try (Statement statement = connection.createStatement()) { statement.execute(text); }
  }

  static String quoted(Object value) {
    return value instanceof String ? "\"" + value + "\"" : String.valueOf(value);
  }

  public static void main(String[] none) throws Exception {
    Map<String, String> env = System.getenv();
    Properties properties = new Properties();
    properties.setProperty("user", env.get("PGUSER"));
    properties.setProperty("password", env.get("PGPASSWORD"));
    properties.setProperty("sslmode", "verify-full");
    properties.setProperty("prepareThreshold", "1");
    if (env.containsKey("PGSSLROOTCERT")) properties.setProperty("sslrootcert", env.get("PGSSLROOTCERT"));
    else properties.setProperty("sslfactory", "org.postgresql.ssl.DefaultJavaSSLFactory");
    String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
    connection = DriverManager.getConnection(url, properties);
    Map<String, Object> result = new TreeMap<>();
    result.put("user", one("select current_user"));
    result.put("simple", Integer.valueOf(one("select 1 + 2")));
    result.put("null", one("select null") == null);
    result.put("parameters", one("select ?::int || ' ' || ?::text", 42, "it's 🐘"));
    try (PreparedStatement statement = connection.prepareStatement("select ?::bytea")) {
      statement.setBytes(1, new byte[] {0, (byte) 0xff, 0x10});
      ResultSet rows = statement.executeQuery();
      rows.next();
      result.put("binary", HexFormat.of().formatHex(rows.getBytes(1)));
    }
    List<Integer> prepared = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement("select ?::int * ?::int")) {
      for (int n = 1; n <= 3; n++) {
        statement.setInt(1, n);
        statement.setInt(2, n);
        ResultSet rows = statement.executeQuery();
        rows.next();
        prepared.add(rows.getInt(1));
      }
    }
    result.put("prepared", prepared);
    run("create temp table t (n int, word text)");
    connection.setAutoCommit(false);
    try (PreparedStatement statement = connection.prepareStatement("insert into t values (?, ?)")) {
      for (int n = 1; n <= 2; n++) {
        statement.setInt(1, n);
        statement.setString(2, "a");
        statement.addBatch();
      }
      statement.executeBatch();
    }
    connection.commit();
    result.put("committed", Integer.valueOf(one("select count(*) from t")));
    run("insert into t values (3, 'c')");
    connection.rollback();
    result.put("rolled_back", Integer.valueOf(one("select count(*) from t")));
    connection.commit();
    connection.setAutoCommit(true);
    StringBuilder lines = new StringBuilder();
    for (int n = 0; n < 1000; n++) lines.append(n).append("\tword ").append(n).append("\n");
    connection.unwrap(PGConnection.class).getCopyAPI().copyIn("copy t from stdin", new StringReader(lines.toString()));
    result.put("copied", Integer.valueOf(one("select count(*) from t")));
    StringWriter out = new StringWriter();
    result.put("copied_out", connection.unwrap(PGConnection.class).getCopyAPI().copyOut("copy t to stdout", out));
    try { one("select 1 / 0"); } catch (SQLException error) { result.put("error", error.getSQLState()); }
    result.put("after_error", Integer.valueOf(one("select 1")));
    connection.setAutoCommit(false);
    try { one("select 1 / 0"); } catch (SQLException error) { }
    try { one("select 1"); } catch (SQLException error) { result.put("failed_transaction", error.getSQLState()); }
    connection.rollback();
    connection.setAutoCommit(true);
    run("listen news; notify news, 'ž'");
    result.put("notified", connection.unwrap(PGConnection.class).getNotifications(20000)[0].getParameter());
    int count = 0, length = 0;
    connection.setAutoCommit(false);
    try (PreparedStatement statement =
        connection.prepareStatement("select n, repeat('x', 100) from generate_series(1, 50000) n")) {
      statement.setFetchSize(1000); // a portal, row by row
      ResultSet rows = statement.executeQuery();
      while (rows.next()) {
        count++;
        length += rows.getString(2).length();
      }
    }
    connection.commit();
    connection.setAutoCommit(true);
    result.put("big", List.of(count, length));
    result.put("unicode", one("select 'Příliš žluťoučký 🐘'"));
    try (Statement statement = connection.createStatement()) {
      new java.util.Timer(true).schedule(new TimerTask() {
        public void run() { try { statement.cancel(); } catch (SQLException error) { error.printStackTrace(); } }
      }, 300);
      statement.execute("select pg_sleep(30)");
    } catch (SQLException error) { result.put("cancelled", error.getSQLState()); }
    connection.close();
    StringJoiner json = new StringJoiner(", ", "{", "}");
    result.forEach((name, value) -> json.add("\"" + name + "\": " + quoted(value)));
    new PrintStream(System.out, true, "UTF-8").println(json);
  }
}
